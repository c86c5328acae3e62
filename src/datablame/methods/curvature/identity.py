"""No curvature: the plain inner product of gradients. Charpiat et al., 2019. arXiv:2102.05262

Formula: `g_q^T g_n`.
When: nothing is to be fitted, or the worth of a curvature is to be seen.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float, Shaped
from datablame.layers.taps import Layer, Tap


class identity:
    """Every direction counts alike; nothing is fitted, and damping changes nothing."""

    passes = ()

    def __init__(self, layer: Layer):
        self.layer = layer
        self.kept: dict[str, Tensor] = {}

    @property
    def mean(self) -> float:
        return 1.0

    def damp(self, damping: float) -> None:
        """Every weight keeps its direction."""
        self.effective = float(self.layer.size)

    @property
    def width(self) -> int:
        return self.layer.size

    def turn(self, g: Shaped[Tensor, "G B S O"]) -> Shaped[Tensor, "G B S O"]:
        return g

    def solve(self, tap: Tap) -> Shaped[Tensor, "G B O I"]:
        return tap.gradient()

    def square(self, tap: Tap) -> Float[Tensor, " B"]:
        return tap.norm()
