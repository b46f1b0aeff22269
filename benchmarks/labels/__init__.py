"""Ways to label a mixed image: the truth, published rivals, what was tried, and the arms of the comparison."""
