"""The linear softmax head.

Formula: `z = W f + b`.
When: always, unless there is a reason: the default, which closed forms need.
"""

from __future__ import annotations

from torch import nn


class linear(nn.Linear):
    """One linear layer: logits are weighted sums of the features."""

    def __init__(self, dim: int, classes: int):
        super().__init__(dim, classes)
