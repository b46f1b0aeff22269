"""Which labels make better models? Models trained with each kind of label, on data whose truth is known."""
