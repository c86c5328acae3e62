"""Curvature of one layer: `passes, update(tap), finish(), solve(tap, damping), square(tap,
damping)`, fitted on batches of taps.
"""
