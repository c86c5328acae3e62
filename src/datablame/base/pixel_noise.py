"""Perturbation: noise on the pixels of images, drawn as they are read; nothing is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datablame.base import hashing
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int, UInt8

SPREAD = 12**-0.5
"""Standard deviation of numbers drawn evenly from [0, 1), to which both kinds are brought."""


@dataclass(frozen=True)
class Perturbation:
    """`amount` times noise, in units of each channel's standard deviation `std`; a function of the
    seed and the image alone.

    The mean is 0 and the standard deviation that of even numbers in [0, 1), whatever the kind.
    `original`: as first published, one pattern for all images, from 0 to 1, normal noise squeezed
    to that range.
    """

    kind: str
    amount: float
    seed: int
    std: tuple[float, ...]
    original: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.amount < math.inf:
            raise InputError(
                f"the strength of noise on pixels is a number from 0; got {self.amount}"
            )

    def __call__(
        self, images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"]
    ) -> UInt8[Tensor, "B C H W"]:
        """The images of these rows with their noise, rounded and cut at black and white."""
        rows = (
            torch.zeros(1, dtype=torch.long, device=images.device)
            if self.original
            else rows.to(images.device)
        )
        noise = self.drawn(rows, images[0].numel()).unflatten(1, images.shape[1:])
        scale = 255 * self.amount * torch.tensor(self.std, device=images.device)[:, None, None]
        return (images + scale * noise).round().clamp(0, 255).to(torch.uint8)

    def drawn(self, rows: Int[Tensor, " B"], count: int) -> Float[Tensor, "B P"]:
        """So many numbers a row."""
        place = rows[:, None] * count + torch.arange(count, device=rows.device)
        even = hashing.uniform(place, "pixel", self.seed)
        if self.kind == "uniform":
            return even if self.original else even - 0.5
        turn = hashing.uniform(place, "turn", self.seed)  # Box, Muller, 1958
        normal = (-2 * (1 - even).log()).sqrt() * (2 * math.pi * turn).cos()
        if not self.original:
            return SPREAD * normal
        low, high = normal.amin(1, keepdim=True), normal.amax(1, keepdim=True)
        return (normal - low) / (high - low)
