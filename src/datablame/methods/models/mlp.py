"""A multilayer perceptron on pixels. Rumelhart, Hinton, Williams, 1986."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import nn


class mlp(nn.Sequential):
    """Two hidden layers on the pixels themselves, for tiny images."""

    def __init__(self, shape: tuple[int, int, int], hidden: int = 256, layers: int = 2):
        self.dim = hidden
        sizes = [prod(shape)] + [hidden] * layers
        body = [
            layer
            for i, o in pairwise(sizes)
            for layer in (nn.Linear(i, o, bias=False), nn.BatchNorm1d(o), nn.ReLU())
        ]
        super().__init__(nn.Flatten(), *body)
