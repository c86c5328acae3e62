"""What the pixels of an image tell of it without any model: how light, how sharp, how much there is
to see.

The measures and their borders are those of the field: brightness by quantiles, as cleanvision takes
them; sharpness by the Laplacian: Pech-Pacheco et al., 2000. Diatom autofocusing in brightfield
microscopy; information by the entropy of greys: Shannon, 1948.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d

from datablame.base import processes
from datablame.base.images import Packed
from datablame.base.shapes import Bool, Float, Int
from datablame.dataset import Dataset

BLOCK, BINS = 2048, 64
"""Images that are looked at together, and levels of grey whose entropy is taken."""
LAPLACIAN = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
ROUNDED = float(LAPLACIAN.square().sum()) / 12 / 255**2
"""Variance of the Laplacian of pixels that are rounded to bytes: of faint pictures it is all."""
USUAL = 0.1
"""Where a larger share of a set is such, it is what the set is like, and no defect."""
FLAT = 2 / 255
"""Standard deviation of pixels below which there is nothing to see."""


@dataclass(frozen=True, eq=False)
class Quality:
    """One number per image: `light`, the 99th percentile of luma in [0, 1]; `shade`, its 5th;
    `contrast`, the largest standard deviation of a channel; `colour`, the mean distance of the
    channels; `entropy`, of luma, in bits; `sharpness`, the deviation of the Laplacian relative to
    that of luma; `width` and `height` of the picture as it was found, in pixels (0 where that is
    not known)."""

    light: Float[np.ndarray, " N"]
    shade: Float[np.ndarray, " N"]
    contrast: Float[np.ndarray, " N"]
    colour: Float[np.ndarray, " N"]
    entropy: Float[np.ndarray, " N"]
    sharpness: Float[np.ndarray, " N"]
    width: Int[np.ndarray, " N"]
    height: Int[np.ndarray, " N"]

    @classmethod
    def of(cls, data: Dataset) -> Quality:
        """Of every image of a set that has pixels, by the array that they are packed in; each
        process looks at its part.
        """
        mine = processes.shard(torch.arange(len(data)))
        parts = [_looked(data.pixels, data.rows[rows]) for rows in mine.split(BLOCK) if len(rows)]
        seen = torch.cat([torch.zeros(0, 6), *parts])
        found = processes.together(seen, len(data)).T.numpy()
        sizes = data.pixels.sizes
        extent = np.zeros((2, len(data)), "int32") if sizes is None else sizes[data.rows.numpy()].T
        return cls(*found, *extent)

    def columns(self) -> dict[str, np.ndarray]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def defects(self) -> dict[str, Bool[np.ndarray, " N"]]:
        """Which images have each of DEFECTS; none where more than USUAL of a set have it. Of what
        is blank nothing else is said, and of what is dark or bright not that it is blurred.
        """
        found = {name: test(self) for name, test in DEFECTS.items()}
        hidden = found["blank"]
        for name in ("dark", "bright"):
            found[name] = found[name] & ~hidden
        hidden = hidden | found["dark"] | found["bright"]
        for name in ("blurred", "low_information"):
            found[name] = found[name] & ~hidden
        return {
            name: each if each.mean() <= USUAL else np.zeros_like(each)
            for name, each in found.items()
        }


def _looked(images: Packed, rows: Int[Tensor, " b"]) -> Float[Tensor, "b 6"]:
    """Light, shade, contrast, colour, entropy and sharpness of some images."""
    x = torch.from_numpy(images.array[rows.numpy()]).float() / 255
    if x.shape[1] == 3:
        luma = (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
        colour = (x.amax(1) - x.amin(1)).mean((1, 2))
    else:
        luma, colour = x, x.new_zeros(len(x))
    flat = luma.flatten(1)
    shade, light = flat.quantile(torch.tensor([0.05, 0.99]), dim=1)
    counts = torch.zeros(len(x), BINS)
    place = (flat * (BINS - 1)).round().long()
    counts.scatter_add_(1, place, torch.ones_like(flat))
    share = counts / flat.shape[1]
    entropy = -(share * share.clamp_min(1e-12).log2()).sum(1)
    deviation = flat.std(1)
    edges = conv2d(luma, LAPLACIAN).flatten(1) if min(luma.shape[2:]) > 2 else flat
    sharpness = (edges.var(1) - ROUNDED).clamp_min(0).sqrt() / deviation.clamp_min(FLAT)
    contrast = x.flatten(2).std(2).amax(1)
    return torch.stack([light, shade, contrast, colour, entropy, sharpness], 1)


def _far(values: np.ndarray, factor: float) -> Bool[np.ndarray, " N"]:
    """Which are more than a factor away from the median, either way; none where it is not known."""
    middle = float(np.median(values)) if len(values) else 0.0
    if middle <= 0:
        return np.zeros(len(values), bool)
    return (values > factor * middle) | (values * factor < middle)


DEFECTS: dict[str, Callable[[Quality], Bool[np.ndarray, " N"]]] = {
    "blank": lambda q: q.contrast < FLAT,
    "dark": lambda q: q.light < 0.3,
    "bright": lambda q: q.shade > 0.93,
    "blurred": lambda q: q.sharpness < 0.12,
    "low_information": lambda q: q.entropy < 2.0,
    "odd_size": lambda q: _far(q.width.astype("f8") * q.height, 6.0),
    "odd_shape": lambda q: _far(q.width / np.maximum(q.height, 1), 2.5),
}
"""What may be wrong with an image by itself, and how that is told."""
