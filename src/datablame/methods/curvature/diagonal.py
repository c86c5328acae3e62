"""The diagonal of the Fisher. Kirkpatrick et al., 2017 (eq. 3). arXiv:1612.00796

When: layers are too wide for factors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base import devices, processes
from datablame.base.shapes import Float, Shaped
from datablame.layers.taps import Layer, Tap


class diagonal:
    """The mean square of each weight's gradient: `(E[G o G] + damping)^-1 o G`."""

    passes = ("eigenvalues",)

    def __init__(self, layer: Layer):
        self.layer = layer
        self.kept: dict[str, Tensor] = {}
        self.sum, self.count = (
            torch.zeros(layer.groups, layer.outputs, layer.inputs, device=devices.device()),
            0,
        )

    def update(self, tap: Tap) -> None:
        if tap.g.shape[2] == 1:
            self.sum += tap.g[:, :, 0].square().mT @ tap.rows[:, :, 0].square()
        else:
            for part in tap.split():
                self.sum += part.gradient().square_().sum(1, dtype=torch.float32)
        self.count += len(tap) * tap.first

    def meet(self, owner: int) -> None:
        count = self.sum.new_tensor(self.count)
        self.sum, self.total = processes.added(self.sum, owner), processes.added(count, owner)

    def finish(self) -> None:
        self.kept = {"values": self.sum / self.total}

    @property
    def mean(self) -> float:
        return float(self.kept["values"].mean())

    def damp(self, damping: float) -> None:
        values = self.kept["values"]
        self.weight = (1 / (values + damping))[:, None]
        self.effective = float((values / (values + damping)).sum())

    @property
    def width(self) -> int:
        return self.layer.size

    def turn(self, g: Shaped[Tensor, "G B S O"]) -> Shaped[Tensor, "G B S O"]:
        return g

    def solve(self, tap: Tap) -> Shaped[Tensor, "G B O I"]:
        return tap.gradient().mul_(self.weight.to(tap.g.dtype))

    def square(self, tap: Tap) -> Float[Tensor, " B"]:
        return (tap.gradient().float().square_() * self.weight).sum((0, 2, 3))
