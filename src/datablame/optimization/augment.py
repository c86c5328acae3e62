"""Random changes of images, a whole batch at a time on the device, drawn by hashing seed, epoch and
row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from datablame.base import hashing
from datablame.base.errors import unknown
from datablame.base.shapes import Float, Int, Shaped, UInt8
from datablame.optimization.autoaugment import POLICIES, autoaugmented

KINDS = ("none", "crop", "flip", "zoom", "randaugment", *POLICIES)
STRENGTH = 0.5
"""How far randaugment goes, of its reach: half, the usual magnitude for small images."""


def kinds(augment: str) -> set[str]:
    """`"crop+flip"` -> `{"crop", "flip"}`. Raises InputError for another word."""
    words = set(augment.split("+"))
    for word in words:
        if word not in KINDS:
            raise unknown("augmentation", word, KINDS)
    return words - {"none"}


def augment(
    images: Shaped[Tensor, "B C H W"], rows: Int[Tensor, " B"], what: str, *seed: object
) -> Shaped[Tensor, "B C H W"]:
    """Shift by up to an eighth of the side, mirrored at the border (`crop`); mirror left and right
    (`flip`); a part of 8 to 100 % of the area, brought to full size (`zoom`); two changes of colour
    or shape an image (`randaugment`); two of a table that was found by search (`autoaugment`,
    `autoaugment_svhn`, `autoaugment_imagenet`).
    """
    words = kinds(what)
    if "zoom" in words:
        images = _zoomed(images, rows, *seed)
    if words & {"crop", "flip"}:
        images = _moved(images, rows, words, *seed)
    for name in POLICIES:
        if name in words:
            images = autoaugmented(images, rows, name, *seed)
    for turn in range(2 if "randaugment" in words else 0):
        images = _changed(images, rows, *seed, turn)
    return images


def _moved(
    images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"], words: set[str], *seed: object
) -> UInt8[Tensor, "B C H W"]:
    """Shifted and mirrored in one gather."""
    height, width = images.shape[2:]
    rows = rows.to(images.device)
    y = torch.arange(height, device=images.device).expand(len(rows), height)
    x = torch.arange(width, device=images.device).expand(len(rows), width)
    if "crop" in words:
        y, x = _shifted(y, rows, "down", *seed), _shifted(x, rows, "right", *seed)
    if "flip" in words:
        x = torch.where(hashing.uniform(rows, "flip", *seed)[:, None] < 0.5, width - 1 - x, x)
    batch = torch.arange(len(rows), device=images.device)
    return images.permute(0, 2, 3, 1)[batch[:, None, None], y[:, :, None], x[:, None, :]].permute(
        0, 3, 1, 2
    )


def _shifted(
    position: Int[Tensor, "B L"], rows: Int[Tensor, " B"], *seed: object
) -> Int[Tensor, "B L"]:
    """Positions moved by a whole number of pixels a row, mirrored at both ends."""
    last = position.shape[1] - 1
    reach = max(1, (last + 1) // 8)
    by = (hashing.uniform(rows, *seed) * (2 * reach + 1)).long() - reach
    return last - (last - (position + by[:, None]).abs()).abs()


def _zoomed(
    images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"], *seed: object
) -> UInt8[Tensor, "B C H W"]:
    """A part of each image at full size, its area and shape drawn by row.

    Szegedy et al., 2015 (section 6). arXiv:1409.4842
    """
    rows = rows.to(images.device)
    area, shape, x, y = (
        hashing.uniform(rows, name, *seed)[:, None, None, None]
        for name in ("area", "shape", "x", "y")
    )
    area, ratio = 0.08 + 0.92 * area, (4 / 3) ** (2 * shape - 1)
    wide, high = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    seen = _affine(
        images.float(),
        xx=wide - 1,
        yy=high - 1,
        x=(2 * x - 1) * (1 - wide),
        y=(2 * y - 1) * (1 - high),
    )
    return seen.clamp(0, 255).round().to(torch.uint8)


def _changed(
    images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"], *seed: object
) -> UInt8[Tensor, "B C H W"]:
    """One change an image, of a kind and strength drawn by its row.

    Cubuk et al., 2020 (RandAugment). arXiv:1909.13719
    """
    rows = rows.to(images.device)
    kind = (hashing.uniform(rows, "change", *seed) * len(CHANGES)).long()
    amount = STRENGTH * (2 * hashing.uniform(rows, "amount", *seed) - 1)
    x = images.float() / 255
    y = x.clone()
    for number, change in enumerate(CHANGES):
        mine = (kind == number).nonzero()[:, 0]
        if len(mine):
            y[mine] = change(x[mine], amount[mine][:, None, None, None])
    return (y.clamp(0, 1) * 255).round().to(torch.uint8)


def _affine(
    images: Float[Tensor, "b C H W"], **entries: Float[Tensor, "b 1 1 1"]
) -> Float[Tensor, "b C H W"]:
    """Images seen through the identity with some entries added to (`xx` to `yy` of the matrix, `x`
    and `y` of the shift); what comes from outside is the border's nearest pixel."""
    matrix = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    for name, values in entries.items():
        row, column = PLACES[name]
        matrix[:, row, column] += values[:, 0, 0, 0]
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _rotated(
    x: Float[Tensor, "b C H W"], amount: Float[Tensor, "b 1 1 1"]
) -> Float[Tensor, "b C H W"]:
    angle = amount * torch.pi / 3
    return _affine(x, xx=angle.cos() - 1, yy=angle.cos() - 1, xy=-angle.sin(), yx=angle.sin())


def _blended(x: Tensor, other: Tensor, amount: Tensor) -> Tensor:
    """Towards `other` or away from it."""
    return x + 1.8 * amount * (x - other)


def _grey(x: Float[Tensor, "b C H W"]) -> Float[Tensor, "b 1 H W"]:
    return x.mean(1, keepdim=True)


def _coarse(
    x: Float[Tensor, "b C H W"], step: Float[Tensor, "b 1 1 1"]
) -> Float[Tensor, "b C H W"]:
    """Only every `step`-th of 256 levels."""
    return (x * 255 / step + 1e-3).floor() * step / 255


def _cut(x: Float[Tensor, "b C H W"], amount: Float[Tensor, "b 1 1 1"]) -> Float[Tensor, "b C H W"]:
    """A square of up to half the side, greyed, at a place that the amount decides too."""
    height, width = x.shape[2:]
    side = amount.abs() * min(height, width)
    place = (amount * 997).frac().abs()
    top, left = place * height, (place * 31).frac() * width
    down = torch.arange(height, device=x.device)[None, None, :, None]
    right = torch.arange(width, device=x.device)[None, None, None, :]
    hidden = ((down - top).abs() < side / 2) & ((right - left).abs() < side / 2)
    return torch.where(hidden, 0.5, x)


PLACES = {"xx": (0, 0), "xy": (0, 1), "x": (0, 2), "yx": (1, 0), "yy": (1, 1), "y": (1, 2)}
CHANGES = (
    lambda x, amount: x,
    lambda x, amount: _affine(x, xy=0.6 * amount),
    lambda x, amount: _affine(x, yx=0.6 * amount),
    lambda x, amount: _affine(x, x=0.9 * amount),
    lambda x, amount: _affine(x, y=0.9 * amount),
    _rotated,
    lambda x, amount: _blended(x, torch.zeros_like(x), amount),
    lambda x, amount: _blended(x, _grey(x), amount),
    lambda x, amount: _blended(x, _grey(x).mean((2, 3), keepdim=True), amount),
    lambda x, amount: _blended(x, avg_pool2d(x, 3, 1, 1, count_include_pad=False), amount),
    lambda x, amount: torch.where(x > 1 - amount.abs(), 1 - x, x),
    lambda x, amount: _coarse(x, 2 ** (8 * amount.abs()).floor()),
    lambda x, amount: (
        (x - x.amin((2, 3), keepdim=True))
        / (x.amax((2, 3), keepdim=True) - x.amin((2, 3), keepdim=True)).clamp_min(1e-3)
    ),
    _cut,
)
"""Identity, shear and shift along both axes, rotation, brightness, colour, contrast, sharpness,
solarize, posterize, auto-contrast, cutout."""
