"""The linear softmax head."""

from __future__ import annotations

from torch import nn


class linear(nn.Linear):
    """One linear layer: logits are weighted sums of the features."""

    def __init__(self, dim: int, classes: int):
        super().__init__(dim, classes)
