"""Copies among images: the same pixels, or the same picture resized, compressed again, cropped or
mirrored.

Candidates are near in a few grey levels and colours; each is laid over the other by a scale and a
shift of its own, and what is left must agree. Lucas, Kanade, 1981. An iterative image registration
technique (the laying over, in its compositional form: Baker, Matthews, 2004).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, grid_sample, interpolate, normalize

from datablame.base import arrays, devices, environment, hashing, processes, progress
from datablame.base.shapes import Bool, Float, Int
from datablame.dataset import Dataset
from datablame.inference import approximate
from datablame.inference.neighbours import nearest

TILES, NEAR, LEAST = 8, 5, 0.75
"""Squares across an image that candidates are found by, candidates an image, and their cosine."""
SIDES, STEPS = (16, 32), (6, 4)
"""Pixels in which two images are laid over each other, the second time only where they may be
copies, and steps that this takes."""
GATE, SURE, MOST = 0.88, 0.97, 0.998
"""Correlation after the first time at which there is a second; and at the end: of copies at least,
and at most where all images of a set are alike."""
ASKED, POWER = 1000, 2.1
"""Images by which it is known how alike those of a set are, and how much more alike copies are."""
STRETCH = 0.25
"""Of an image, by which it is stretched or shifted at most."""
BLOCK = 1024


def copies(
    read: Callable[[Int[Tensor, " b"]], np.ndarray], count: int, drawn: bool = True
) -> Int[Tensor, " N"]:
    """For each of `count` images the first that is a copy of it, itself where there is none:
    `read(rows)` gives uint8 `[b,C,H,W]`. Copies of copies are copies. Of what is not `drawn`, such
    as features, only equal rows are copies.

    Chosen on 8,000 images of CIFAR-10 and on digits, with 1,000 copies of each kind made of them.
    """
    with progress.stage("copies"):
        first = _equal(read, count)
        some = (first == torch.arange(count)).nonzero()[:, 0]
        if drawn and len(some) > 1 and _searched(len(some)):
            pairs = _pairs(lambda rows: read(some[rows]), len(some))
            first = _joined(first, some[pairs])
        return first


def of_sets(data: Dataset, test: Dataset | None = None) -> Int[np.ndarray, " n"]:
    """`copies` among the images of a set, and then of its test set; found once, and kept in the
    cache.
    """
    parts = [data, *([] if test is None else [test])]
    total = sum(map(len, parts))
    return arrays.keep(
        cached(data, test),
        lambda: copies(_reader(parts), total, data.drawn).numpy(),
        (total,),
        "i",
    )


def cached(data: Dataset, test: Dataset | None) -> Path:
    """Where the cache keeps the copies of these images."""
    parts = [each for each in (data, test) if each is not None]
    seen = [np.frombuffer(each.pixels.digest.encode(), "uint8") for each in parts]
    mark = arrays.digest(*seen, *(each.rows.numpy() for each in parts))
    return environment.cache() / "copies" / f"{data.pixels.digest[:16]}-{mark}.npy"


def _reader(parts: Sequence[Dataset]) -> Callable[[Int[Tensor, " b"]], np.ndarray]:
    """What reads some of all images, numbered through."""
    ends = np.cumsum([0, *map(len, parts)])

    def read(rows: Int[Tensor, " b"]) -> np.ndarray:
        which = np.searchsorted(ends, rows.numpy(), "right") - 1
        first = parts[0].pixels.array
        found = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for number, part in enumerate(parts):
            mine = np.flatnonzero(which == number)
            found[mine] = part.pixels.array[part.rows[rows[mine] - int(ends[number])].numpy()]
        return found

    return read


def _searched(count: int) -> bool:
    """Whether so many images are compared with each other; says how, where they are too many."""
    few = count <= approximate.ROWS or devices.device().type != "cpu"
    if few or approximate.there():
        return True
    progress.say(
        f"{count:,} images are too many to compare with each other on a CPU: only equal ones are "
        f"called copies; with an index others are found too: {approximate.INSTALL}"
    )
    return False


def _equal(read: Callable[[Int[Tensor, " b"]], np.ndarray], count: int) -> Int[Tensor, " N"]:
    """For each image the first of the same pixels."""
    seen: dict[bytes, int] = {}
    first = []
    for rows in torch.arange(count).split(BLOCK):
        for place, image in zip(rows.tolist(), np.ascontiguousarray(read(rows)), strict=True):
            mark = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            first.append(seen.setdefault(mark, place))
    return torch.tensor(first, dtype=torch.long)


def _joined(first: Int[Tensor, " N"], pairs: Int[Tensor, "n 2"]) -> Int[Tensor, " N"]:
    """The first image of each group that pairs, and equal images, make together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(first)
    one = np.concatenate([np.arange(n), pairs[:, 0].numpy()])
    two = np.concatenate([first.numpy(), pairs[:, 1].numpy()])
    graph = coo_array((np.ones(len(one), bool), (one, two)), shape=(n, n))
    group = connected_components(graph, directed=False)[1]
    _, start = np.unique(group, return_index=True)
    return torch.from_numpy(start[group].astype("int64"))


def _pairs(read: Callable[[Int[Tensor, " b"]], np.ndarray], count: int) -> Int[Tensor, "n 2"]:
    """Pairs of images that are copies of each other."""
    blocks = processes.shard(torch.arange(count)).split(BLOCK)
    near, turned = [], []
    for rows in progress.track(blocks, len(blocks), "copies", "blocks"):
        images = torch.from_numpy(read(rows)).float()
        near.append(descriptor(images))
        turned.append(descriptor(images.flip(-1)))
    both = [processes.together(torch.cat(part), count) for part in (near, turned)]
    space = torch.cat(both).numpy()
    cosine, index = nearest(space, NEAR, count)
    row = torch.arange(count)[:, None].expand_as(index)
    other, mirrored = index % count, index >= count
    some = (cosine > LEAST) & (other != row)
    low, high = torch.minimum(row, other)[some], torch.maximum(row, other)[some]
    key = ((low * count + high) * 2 + mirrored[some]).unique()
    _, fine = _alike(read, torch.stack([key // 2 // count, key // 2 % count], 1), key % 2 == 1)
    asked = hashing.some(count, min(count, ASKED), "copies")
    last = torch.stack([asked, other[asked, -1]], 1)
    usual = _alike(read, last, mirrored[asked, -1])[0].median()
    # where all are alike, such as digits, likeness alone makes no copy
    copied = fine > (1 - (1 - usual) ** POWER).clamp(SURE, MOST)
    return torch.stack([key // 2 // count, key // 2 % count], 1)[copied]


def _alike(
    read: Callable[[Int[Tensor, " b"]], np.ndarray],
    pairs: Int[Tensor, "n 2"],
    mirrored: Bool[Tensor, " n"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """`likeness` of pairs of images, of which the second may be mirrored; each process looks at its
    part.
    """
    mine = processes.shard(torch.arange(len(pairs)))
    parts, found = mine.split(BLOCK), [torch.zeros(0, 2)]
    for part in progress.track(parts, len(parts), "copies", "blocks of pairs"):
        ones, others = (torch.from_numpy(read(pairs[part, k])).float() for k in (0, 1))
        others = torch.where(mirrored[part, None, None, None], others.flip(-1), others)
        found.append(torch.stack(likeness(ones, others), 1))
    coarse, fine = processes.together(torch.cat(found), len(pairs)).unbind(1)
    return coarse, fine


def descriptor(images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
    """Grey in TILES squares across, its mean taken off, and colours in half as many; of length one,
    or zero where there is one grey alone.
    """
    grey = _at(images.mean(1, keepdim=True), TILES).flatten(1)
    parts = [grey - grey.mean(1, keepdim=True)]
    if images.shape[1] == 3:
        colour = images[:, [0, 2]] - images[:, 1:2]
        parts.append(_at(colour, TILES // 2).flatten(1))
    return normalize(torch.cat(parts, 1))


def likeness(
    one: Float[Tensor, "B C H W"], other: Float[Tensor, "B C H W"]
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """(correlation of greys, of all colours after a second look; 0 for those that did not get one)
    of pairs of images, each laid over the other.
    """
    first, second = (min(side, *one.shape[2:]) for side in SIDES)
    grey, laid = (each.mean(1, keepdim=True) for each in (one, other))
    place, coarse = _laid(_at(grey, first), _at(laid, first), one.new_zeros(len(one), 4), STEPS[0])
    fine, go = torch.zeros_like(coarse), coarse > GATE
    if go.any():
        one, other = _at(one[go], second), _at(other[go], second)
        grey, laid = (each.mean(1, keepdim=True) for each in (one, other))
        place, _ = _laid(grey, laid, place[go], STEPS[1])
        moved, inside = _moved(other, place)
        seen = adaptive_avg_pool2d(inside.float(), first) > 0.99
        one, moved = (adaptive_avg_pool2d(each, first) for each in (one, moved))
        fine[go] = _correlation(one, moved, seen)
    return coarse, fine


def _at(images: Float[Tensor, "B C H W"], side: int) -> Float[Tensor, "B C s s"]:
    """Images brought to a side, by the means of areas."""
    if images.shape[2:] == (side, side):
        return images
    return interpolate(images, size=(side, side), mode="area")


def _laid(
    one: Float[Tensor, "B 1 s s"], other: Float[Tensor, "B 1 s s"], place: Tensor, steps: int
) -> tuple[Float[Tensor, "B 4"], Float[Tensor, " B"]]:
    """(how `other` is stretched and shifted to lie over `one`, their correlation then): steps of
    Gauss and Newton from a `place` of stretches and shifts across and down, the best of them kept.
    """
    side = one.shape[-1]
    at = (torch.arange(side) + 0.5) * 2 / side - 1
    across, down = at.expand(side, side), at[:, None].expand(side, side)
    moved, inside = _moved(other, place)
    best, kept = _correlation(one, moved, inside), place
    for _ in range(steps):
        slope_x, slope_y = torch.zeros_like(moved), torch.zeros_like(moved)
        slope_x[..., 1:-1] = (moved[..., 2:] - moved[..., :-2]) * side / 4
        slope_y[..., 1:-1, :] = (moved[..., 2:, :] - moved[..., :-2, :]) * side / 4
        mean, gain = _fitted(one, moved, inside)
        rest = (inside * mean).flatten(1)
        every = [slope_x * across, slope_y * down, slope_x, slope_y]
        slopes = torch.stack([(inside * gain * each).flatten(1) for each in every], 2)
        curve = slopes.mT @ slopes
        damped = 1e-3 * curve.diagonal(dim1=1, dim2=2).mean(1) + 1e-6
        curve = curve + damped[:, None, None] * torch.eye(4)
        step = torch.linalg.solve(curve, slopes.mT @ rest[:, :, None])[:, :, 0]
        place = (place + step).clamp(-STRETCH, STRETCH)
        moved, inside = _moved(other, place)
        agreed = _correlation(one, moved, inside)
        kept = torch.where((agreed > best)[:, None], place, kept)
        best = torch.maximum(agreed, best)
    return kept, best


def _moved(
    images: Float[Tensor, "B C s s"], place: Float[Tensor, "B 4"]
) -> tuple[Float[Tensor, "B C s s"], Bool[Tensor, "B 1 s s"]]:
    """(images stretched and shifted, which pixels lie inside what was there)."""
    side = images.shape[-1]
    at = (torch.arange(side) + 0.5) * 2 / side - 1
    x = at * (1 + place[:, :1]) + place[:, 2:3]
    y = at * (1 + place[:, 1:2]) + place[:, 3:]
    grid = torch.stack([x[:, None, :].expand(-1, side, -1), y[:, :, None].expand(-1, -1, side)], 3)
    inside = (grid.abs() <= 1).all(3)[:, None]
    return grid_sample(images, grid, padding_mode="border", align_corners=False), inside


def _fitted(one: Tensor, other: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """(what is left of `one` by the best brightness and contrast of `other`, that contrast)."""
    one, other = _centred(one, inside), _centred(other, inside)
    gain = (one * other).sum((1, 2, 3), keepdim=True)
    gain = gain / other.square().sum((1, 2, 3), keepdim=True).clamp_min(1e-6)
    return one - gain * other, gain


def _correlation(one: Tensor, other: Tensor, inside: Tensor) -> Float[Tensor, " B"]:
    """Of two images where both are, their mean colours taken off."""
    one, other = _centred(one, inside), _centred(other, inside)
    norms = one.square().sum((1, 2, 3)) * other.square().sum((1, 2, 3))
    return (one * other).sum((1, 2, 3)) / norms.clamp_min(1e-6).sqrt()


def _centred(images: Tensor, inside: Tensor) -> Tensor:
    """Without their mean colours, zero outside."""
    count = inside.sum((2, 3), keepdim=True).clamp_min(1)
    return (images - (images * inside).sum((2, 3), keepdim=True) / count) * inside
