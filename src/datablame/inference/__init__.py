"""Passes of a trained model over images: features, probabilities, gradients of inputs.

It must not train.
"""
