"""The benchmarks: one question, one package; README.md lists them with their commands."""
