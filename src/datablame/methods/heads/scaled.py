"""The scaled linear head of fast CIFAR-10 nets. Page, 2018 (DAWNBench).

Formula: `z = s W f`.
When: a narrow net is trained in few epochs.
"""

from __future__ import annotations

from torch import Tensor, nn

from datablame.base.shapes import Float


class _Times(nn.Module):
    """A constant factor, in a module of its own so that the layer before it is seen as it is."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: Float[Tensor, "B K"]) -> Float[Tensor, "B K"]:
        return x * self.factor


class scaled(nn.Sequential):
    """One linear layer without bias, its logits times `scale`: a softer softmax early in
    training.
    """

    def __init__(self, dim: int, classes: int, scale: float = 0.2):
        super().__init__(nn.Linear(dim, classes, bias=False), _Times(scale))
