"""The Kronecker-factored eigenbasis of a layer's gradients, and products with what is diagonal in
it. George et al., 2018. arXiv:1806.03884
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base import devices, processes
from datablame.base.shapes import Float, Shaped
from datablame.layers.moments import Moment, add
from datablame.layers.taps import Layer, Tap, folded


class Basis:
    """Eigenvectors of the second moments of a layer's inputs and output gradients: where K-FAC's
    curvature is diagonal.

    Scaled so that the Kronecker product of the two equals the Fisher where positions are
    independent: inputs are summed over positions, gradients averaged (`F = E[sum_s g g^T / S] x
    E[sum_s a a^T]`).
    """

    def __init__(self, layer: Layer):
        self.layer, self.moment = layer, Moment(layer)
        self.returned: Tensor | None = None
        self.counts = [0, 0]
        """Examples and positions."""
        self.each = 1.0
        """Positions an example has."""
        self.met: dict[str, Tensor] = {}

    def update(self, tap: Tap) -> None:
        g = tap.g.flatten(1, 2)
        if self.returned is None:
            self.returned = g.new_zeros(len(g), g.shape[-1], g.shape[-1], dtype=torch.float32)
        add(self.returned, g.mT, g)
        if tap.first:
            self.moment.update(tap)
            self.counts[0] += len(tap)
            self.counts[1] += len(tap) * tap.g.shape[2]

    def meet(self, owner: int) -> None:
        """Bring the sums of all processes to one of them."""
        assert self.returned is not None
        counts = self.returned.new_tensor(self.counts, dtype=torch.float32)
        sums = {"count": counts, "inputs": self.moment.finish(), "outputs": self.returned}
        self.met = {name: processes.added(each, owner) for name, each in sums.items()}
        self.moment, self.returned = Moment(self.layer), None

    def finish(self) -> dict[str, Tensor]:
        """`left [G,O,O]`, `right [G,I,I]` with ascending `left_values`, `right_values`."""
        count, positions = self.met["count"]
        self.each = float(positions / count)
        right_values, right = devices.eigenvectors(self.met.pop("inputs") / count)
        left_values, left = devices.eigenvectors(self.met.pop("outputs") / positions)
        return {
            # contiguous, as they come back from a file: a resumed run multiplies alike
            "left": left.contiguous(),
            "right": right.contiguous(),
            "left_values": left_values.clamp_min(0),
            "right_values": right_values.clamp_min(0),
        }


def solve(
    tap: Tap,
    left: Float[Tensor, "G O p"],
    right: Float[Tensor, "G I I"],
    weight: Float[Tensor, "G p I"],
) -> Shaped[Tensor, "G B p I"]:
    """`((left^T G right) o weight) right^T` of each example's gradient `G`: what `left^T G` is met
    with.
    """
    left, right, weight = (each.to(tap.g.dtype) for each in (left, right, weight))
    return folded(tap.rotated(left, right).mul_(weight[:, None]), right.mT)


def square(
    tap: Tap,
    left: Float[Tensor, "G O p"],
    right: Float[Tensor, "G I I"],
    weight: Float[Tensor, "G p I"],
) -> Float[Tensor, " B"]:
    """`sum (left^T G right)^2 o weight` of each example's gradient `G`."""
    left, right, root = (each.to(tap.g.dtype) for each in (left, right, weight.sqrt()))
    rotated = tap.rotated(left, right).mul_(root[:, None])
    return torch.linalg.vector_norm(rotated, dim=(2, 3), dtype=torch.float32).square_().sum(0)
