"""Scripts that each print one table: `python -m parley.benchmarks.NAME --help`."""
