"""One layer's inputs and output gradients, and their second moments.

It knows modules; it must not know runs.
"""
