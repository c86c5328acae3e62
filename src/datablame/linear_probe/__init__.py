"""A softmax-linear head at its optimum, in closed form.

It knows features; it must not know images.
"""
