"""Ties of queries to training examples: `(run, queries, ...options) -> Attributor`, higher pushes
the query towards its class.
"""
