"""Sparse attention over a memory of training images.

It knows features and weights; it must not know runs.
"""
