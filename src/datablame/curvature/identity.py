"""No curvature: the plain inner product of gradients. Charpiat et al., 2019. arXiv:2102.05262"""

from __future__ import annotations

from jaxtyping import Float, Shaped
from torch import Tensor

from datablame.evidence.layers import Layer, Tap


class identity:
    """Every direction counts alike; nothing is fitted, and damping changes nothing."""

    passes = ()

    def __init__(self, layer: Layer):
        self.layer, self.kept = layer, {}

    @property
    def mean(self) -> float:
        return 1.0

    def effective(self, damping: float) -> float:
        return float(self.layer.size)

    def solve(self, tap: Tap, damping: float) -> Shaped[Tensor, "G B O I"]:
        return tap.gradient()

    def square(self, tap: Tap, damping: float) -> Float[Tensor, " B"]:
        return tap.norm()
