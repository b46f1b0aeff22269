"""How true is each label? Labels of mixed test images against the share of each object that is visible in truth."""
