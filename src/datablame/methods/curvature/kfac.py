"""K-FAC: the Fisher of a layer as a Kronecker product.

Martens, Grosse, 2015. arXiv:1503.05671; convolutions: arXiv:1602.01407

When: you compare with programs that have K-FAC, or cannot afford the pass that finds EK-FAC's
eigenvalues.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float, Shaped
from datablame.layers import kronecker
from datablame.layers.taps import Layer, Tap, folded

SCALES = ("fisher", "kronfluence")


class kfac:
    """`F = E[mean_s g g^T] x E[sum_s a a^T]`: eigenvalues are products of the factors' own.
    scale=kronfluence: `E[mean_s a a^T]`, smaller by the number of positions of a convolution."""

    passes = ("basis",)

    def __init__(self, layer: Layer, scale: str = "fisher"):
        if scale not in SCALES:
            raise unknown("scale of kfac", scale, SCALES)
        self.scale = scale
        self.kept: dict[str, Tensor] = {}
        self.basis = kronecker.Basis(layer)

    def update(self, tap: Tap) -> None:
        self.basis.update(tap)

    def meet(self, owner: int) -> None:
        self.basis.meet(owner)

    def finish(self) -> None:
        self.kept = self.basis.finish()
        if self.scale == "kronfluence":
            self.kept["right_values"] /= self.basis.each

    @property
    def values(self) -> Float[Tensor, "G O I"]:
        return self.kept["left_values"][:, :, None] * self.kept["right_values"][:, None]

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    def damp(self, damping: float) -> None:
        self.weight = 1 / (self.values + damping)
        self.effective = float((self.values * self.weight).sum())

    @property
    def width(self) -> int:
        return self.weight.numel()

    def turn(self, g: Shaped[Tensor, "G B S O"]) -> Shaped[Tensor, "G B S O"]:
        return folded(g, self.kept["left"].to(g.dtype))

    def solve(self, tap: Tap) -> Shaped[Tensor, "G B O I"]:
        return kronecker.solve(tap, self.kept["left"], self.kept["right"], self.weight)

    def square(self, tap: Tap) -> Float[Tensor, " B"]:
        return kronecker.square(tap, self.kept["left"], self.kept["right"], self.weight)
