"""Ways to label a mixed image: the truth, published rivals, and the arms of the comparison."""
