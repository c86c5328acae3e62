"""Decoding and packing images, flipping labels, choosing subsets. It must not know models."""
