"""What a model said of each example at each epoch, and what that reveals.

It reads traces; it must not train.
"""
