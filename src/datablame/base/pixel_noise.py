"""Perturbation: noise on the pixels of images, drawn as they are read; nothing is stored."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datablame.base import hashing
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int, Shaped, UInt8

SPREAD = 12**-0.5
"""Standard deviation of numbers drawn evenly from [0, 1), to which both kinds are brought."""


@dataclass(frozen=True)
class Perturbation:
    """`amount` times noise, in units of each channel's standard deviation `std`; a function of the
    seed and the image alone.

    The mean is 0 and the standard deviation that of even numbers in [0, 1), whatever the kind.
    `original`: as first published, one pattern for all images, from 0 to 1, normal noise squeezed
    to that range; a frozen encoder of published weights sees it at the encoder's own size, neither
    rounded nor cut.
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
        if self.original:
            noise = self.pattern(images[0])
        else:
            noise = self.scaled(self.drawn(rows.to(images.device), images[0].numel()), images[0])
        return (images + 255 * noise).round().clamp(0, 255).to(torch.uint8)

    def pattern(self, image: Shaped[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The one pattern of all images as large as this one, for pixels in [0, 1]."""
        row = torch.zeros(1, dtype=torch.long, device=image.device)
        return self.scaled(self.drawn(row, image.numel()), image)[0]

    def scaled(
        self, noise: Float[Tensor, "B P"], image: Shaped[Tensor, "C H W"]
    ) -> Float[Tensor, "B C H W"]:
        """Noise in units of the channels, for pixels in [0, 1]."""
        std = torch.tensor(self.std, device=noise.device)[:, None, None]
        return self.amount * std * noise.unflatten(1, image.shape)

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
