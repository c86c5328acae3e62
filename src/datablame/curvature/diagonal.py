"""The diagonal of the Fisher. Kirkpatrick et al., 2017 (eq. 3). arXiv:1612.00796"""

from __future__ import annotations

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from datablame.evidence.layers import Layer, Tap
from datablame.ground import world


class diagonal:
    """The mean square of each weight's gradient: `(E[G o G] + damping)^-1 o G`."""

    passes = ("eigenvalues",)

    def __init__(self, layer: Layer):
        self.layer, self.kept = layer, {}
        self.sum, self.count = torch.zeros(layer.groups, layer.outputs, layer.inputs, device=world.device()), 0

    def update(self, tap: Tap) -> None:
        if tap.g.shape[2] == 1:
            self.sum += tap.g[:, :, 0].square().mT @ tap.rows[:, :, 0].square()
        else:
            for part in tap.split():
                self.sum += part.gradient().square().sum(1)
        self.count += len(tap) * tap.first

    def finish(self) -> None:
        self.kept = {"values": world.total(self.sum) / world.total(self.sum.new_tensor(self.count))}

    @property
    def mean(self) -> float:
        return float(self.kept["values"].mean())

    def effective(self, damping: float) -> float:
        values = self.kept["values"]
        return float((values / (values + damping)).sum())

    def solve(self, tap: Tap, damping: float) -> Shaped[Tensor, "G B O I"]:
        return tap.gradient() * (1 / (self.kept["values"] + damping))[:, None].to(tap.g.dtype)

    def square(self, tap: Tap, damping: float) -> Float[Tensor, " B"]:
        weight = (1 / (self.kept["values"] + damping))[:, None]
        return torch.cat([(part.gradient().float().square_() * weight).sum((0, 2, 3)) for part in tap.split()])
