"""Curvature of one layer: `passes, update(tap), meet(owner), finish(), solve(tap, damping),
square(tap, damping)`, fitted on batches of taps. `meet` brings the sums of all processes to one of
them, which alone does `finish`.
"""
