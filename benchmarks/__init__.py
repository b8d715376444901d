"""Measurements of this project beside plain Trio and beside its peers: ``python -m benchmarks --help``."""
