"""Influence functions: curvature fitted once, products with it, and an index.

It must not know how results are shown.
"""
