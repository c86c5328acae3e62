"""Random changes of images, a whole batch at a time on the device, drawn by hashing seed, epoch and row."""

from __future__ import annotations

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from datablame.ground import draw
from datablame.ground.errors import unknown

KINDS = ("none", "crop", "flip")


def kinds(augment: str) -> set[str]:
    """`"crop+flip"` -> `{"crop", "flip"}`. Raises InputError for another word."""
    words = set(augment.split("+"))
    for word in words:
        if word not in KINDS:
            raise unknown("augmentation", word, KINDS)
    return words - {"none"}


def augment(
    images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"], what: str, *seed: object
) -> UInt8[Tensor, "B C H W"]:
    """Shift by up to an eighth of the side, mirrored at the border (`crop`); mirror left and right (`flip`)."""
    words = kinds(what)
    if not words:
        return images
    height, width = images.shape[2:]
    rows = rows.to(images.device)
    y = torch.arange(height, device=images.device).expand(len(rows), height)
    x = torch.arange(width, device=images.device).expand(len(rows), width)
    if "crop" in words:
        y, x = shifted(y, rows, "down", *seed), shifted(x, rows, "right", *seed)
    if "flip" in words:
        x = torch.where(draw.uniform(rows, "flip", *seed)[:, None] < 0.5, width - 1 - x, x)
    batch = torch.arange(len(rows), device=images.device)
    return images.permute(0, 2, 3, 1)[batch[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def shifted(position: Int[Tensor, "B L"], rows: Int[Tensor, " B"], *seed: object) -> Int[Tensor, "B L"]:
    """Positions moved by a whole number of pixels a row, mirrored at both ends."""
    last = position.shape[1] - 1
    reach = max(1, (last + 1) // 8)
    by = (draw.uniform(rows, *seed) * (2 * reach + 1)).long() - reach
    return last - (last - (position + by[:, None]).abs()).abs()
