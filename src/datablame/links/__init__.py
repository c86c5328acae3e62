"""Ties of queries to training examples: `(run, queries, ...options) -> Pairs`, higher pushes the query towards its class."""
