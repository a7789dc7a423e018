"""Offline training: rated pictures in, one checkpoint out. Run ``python -m training --help``."""
