"""What the benchmarks share: how figures are recorded, scored, written as tables and drawn."""
