"""Comparison with the truth, or with another run."""
