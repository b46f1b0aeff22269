"""The benchmarks: one question, one file or package; README.md lists them with their commands."""
