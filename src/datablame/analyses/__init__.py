"""What one asks of a finished run: scores, attributions, memorization, memory, classes.

It knows methods by name; it must not know how results are drawn.
"""
