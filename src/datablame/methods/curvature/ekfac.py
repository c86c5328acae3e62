"""EK-FAC: K-FAC's basis with the Fisher's own diagonal in it.

George et al., 2018 (alg. 1). arXiv:1806.03884

When: always, unless there is a reason: it is the default.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base import devices, processes
from datablame.base.shapes import Float, Shaped
from datablame.layers import kronecker
from datablame.layers.taps import Layer, Tap, folded


class ekfac:
    """Eigenvalues `E[(U^T G V)^2]` in the `outputs` leading output directions (none: all); of the
    inputs `rank` leading ones exactly, the rest by their energy a row (none: all exactly)."""

    passes = ("basis", "eigenvalues")

    def __init__(self, layer: Layer, rank: int | None = 256, outputs: int | None = None):
        self.kept: dict[str, Tensor] = {}
        self.layer, self.rank, self.outputs = layer, rank, outputs
        self.basis = kronecker.Basis(layer)
        self.top = self.whole = torch.zeros(0, device=devices.device())
        self.count = 0

    def update(self, tap: Tap) -> None:
        """The second moments in the first pass; in the second `sum (U^T G V_r)^2 [G,O,r]`, and `sum
        |U^T G|^2 [G,O]` where there is a rest.
        """
        if not self.kept:
            self.basis.update(tap)
            return
        left, right = self.kept["left"].to(tap.g.dtype), self.kept["right"].to(tap.g.dtype)
        if not len(self.top):
            self.top = self.top.new_zeros(len(left), left.shape[2], right.shape[2])
            self.whole = self.whole.new_zeros(left.shape[::2])
        for part in tap.split():
            if (
                self.exact and part.g.shape[2] == 1
            ):  # one position: the gradient is an outer product, and so is its square
                g, a = part.g @ left[:, None], part.rows @ right[:, None]
                self.top += (g[:, :, 0].square().mT @ a[:, :, 0].square()).float()
            elif self.exact:
                self.top += part.rotated(left, right).square_().sum(1, dtype=torch.float32)
            else:
                top, whole = part.energies(left, right)
                self.top += top.square_().sum(1, dtype=torch.float32)
                self.whole += whole.sum(1, dtype=torch.float32)
        self.count += len(tap) * tap.first

    def meet(self, owner: int) -> None:
        if not self.kept:
            self.basis.meet(owner)
            return
        count = self.top.new_tensor(self.count)
        self.top, self.whole, self.total = (
            processes.added(each, owner) for each in (self.top, self.whole, count)
        )

    def finish(self) -> None:
        if not self.kept:
            self.cut(self.basis.finish())
            return
        self.kept["values"] = self.top / self.total
        self.kept["rest"] = (self.whole / self.total - self.kept["values"].sum(2)).clamp_min(0)

    def cut(self, basis: dict[str, Tensor]) -> None:
        """Keep the leading directions of a basis."""
        rest = max(0, self.layer.inputs - (self.rank or self.layer.inputs))
        few = max(0, self.layer.outputs - (self.outputs or self.layer.outputs))
        self.kept = {
            "left": basis["left"][:, :, few:].contiguous(),
            "right": basis["right"][:, :, rest:].contiguous(),
            "spectrum": basis["right_values"][:, :rest],
        }

    @property
    def exact(self) -> bool:
        """Are all input directions kept?"""
        return self.kept["spectrum"].shape[1] == 0

    @property
    def _tail(self) -> Float[Tensor, "G O J"]:
        """Eigenvalues of the J directions left out: each row's energy there, shared out as the
        inputs' spectrum is.
        """
        spectrum = self.kept["spectrum"]
        return (
            self.kept["rest"][:, :, None]
            * (spectrum / spectrum.sum(1, keepdim=True).clamp_min(1e-30))[:, None]
        )

    @property
    def mean(self) -> float:
        rest = 0.0 if self.exact else float(self.kept["rest"].sum())
        return (float(self.kept["values"].sum()) + rest) / self.layer.size

    def damp(self, damping: float) -> None:
        """Weights `1 / (eigenvalue + damping)` of the kept directions `[G,O,r]`; of the rest of a
        row their mean by energy `[G,O,1]`.
        """
        values, tail = self.kept["values"], self._tail.clamp_min(1e-20)
        self.weight = 1 / (values + damping)
        self.rest = (tail / (tail + damping)).sum(2, keepdim=True) / tail.sum(
            2, keepdim=True
        ).clamp_min(1e-30)
        self.effective = sum(
            float((each / (each + damping)).sum()) for each in (values, self._tail)
        )

    @property
    def width(self) -> int:
        return self.kept["left"].shape[0] * self.kept["left"].shape[2] * self.layer.inputs

    def turn(self, g: Shaped[Tensor, "G B S O"]) -> Shaped[Tensor, "G B S p"]:
        return folded(g, self.kept["left"].to(g.dtype))

    def solve(self, tap: Tap) -> Shaped[Tensor, "G B p I"]:
        """`w o G' + ((W - w) o G' V_r) V_r^T` with `G' = U^T G`: no product over all inputs on both
        sides is left.
        """
        left, right = self.kept["left"], self.kept["right"]
        if self.exact:
            return kronecker.solve(tap, left, right, self.weight)
        right, weight, rest = (x.to(tap.g.dtype) for x in (right, self.weight, self.rest))
        gradient = self.turn(tap.g).mT @ tap.rows
        top = folded(gradient, right).mul_((weight - rest)[:, None])
        return gradient.mul_(rest[:, None]).add_(folded(top, right.mT))

    def square(self, tap: Tap) -> Float[Tensor, " B"]:
        """`sum W o (G' V_r)^2 + sum_i w_i (|G'_i|^2 - |(G' V_r)_i|^2)`, in fp32: the second is a
        difference of like numbers.
        """
        left, right = self.kept["left"], self.kept["right"]
        if self.exact:
            return kronecker.square(tap, left, right, self.weight)
        top, whole = tap.to(torch.float32).energies(left, right)
        kept = (top.square_() * (self.weight - self.rest)[:, None]).sum((0, 2, 3))
        return kept + (whole * self.rest[:, None, :, 0]).sum((0, 2))
