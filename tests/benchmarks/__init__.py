"""Benchmarks: ratios against baselines measured in the same run, printed by ``make bench``. They assert no times."""
