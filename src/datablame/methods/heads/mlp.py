"""A head of two layers, as wide as the features: Zheng & Jiang, 2022. arXiv:2203.12171

Formula: `z = W2 relu(W1 f)`.
When: features of a frozen encoder do not part the classes linearly.
"""

from __future__ import annotations

from torch import nn


class mlp(nn.Sequential):
    """Two linear layers with a ReLU between them; `hidden` units, by default as many as there are
    features.
    """

    def __init__(self, dim: int, classes: int, hidden: int = 0):
        super().__init__(
            nn.Linear(dim, hidden or dim), nn.ReLU(), nn.Linear(hidden or dim, classes)
        )
