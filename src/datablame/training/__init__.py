"""A whole training: settings chosen, a trainer found, weights and held-out models made.

It must not judge labels.
"""
