"""Random numbers drawn by hashing (seed, row), so that neither order, batch nor number of processes
changes them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from datablame.base.shapes import Float, Int


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _mix(x: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """SplitMix64's finaliser (Steele, Lea, Flood, 2014); products wrap, shifts are made logical by
    a mask.
    """
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def uniform(rows: Int[Tensor, "..."], *seed: object) -> Float[Tensor, "..."]:
    """One number in [0, 1) a row, a function of the row and the seed alone."""
    return ((_mix(_mix(rows + seed_of(*seed))) >> 40) & 0xFFFFFF).float() / 2**24


def permutation(n: int, *seed: object) -> Int[Tensor, " n"]:
    """A random order of `n` rows."""
    generator = torch.Generator().manual_seed(seed_of(*seed))
    return torch.randperm(n, generator=generator)


def some(n: int, count: int, *seed: object) -> Int[Tensor, " count"]:
    """`count` different rows of `n`, in random order; of many rows without a permutation of them
    all.
    """
    if (
        n < 8 * count or count < 64
    ):  # with 128 draws or more, half of them are different but for a probability of none
        return permutation(n, *seed)[:count]
    generator = torch.Generator().manual_seed(seed_of(*seed))
    found = torch.randint(n, (2 * count,), generator=generator)
    values, place = found.unique(return_inverse=True)
    first = torch.full_like(values, len(found)).scatter_reduce_(
        0, place, torch.arange(len(found)), "amin"
    )
    return found[first.sort().values[:count]]


def spread(
    labels: Int[Tensor, " n"], count: int, *seed: object, even: bool = True
) -> Int[Tensor, " count"]:
    """`count` rows in random order, as many of each class as there are (small ones leave their
    places to others); without `even` in proportion.
    """
    order = permutation(len(labels), *seed)
    given, counts = labels[order], labels.bincount()
    turn = turns(given)
    if not even:  # halves of a turn, so that each class is rounded to its nearest number
        turn = (turn + 0.5) / counts[given]
    return order[turn.argsort(stable=True)[:count]]


def turns(labels: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    """Of each example how many of its class stand before it."""
    order, counts = labels.argsort(stable=True), labels.bincount()
    place = torch.arange(len(labels)) - (counts.cumsum(0) - counts)[labels[order]]
    return torch.empty_like(place).scatter_(0, order, place)


def parted(
    labels: Int[Tensor, " n"], groups: Int[Tensor, " n"], shares: Sequence[float], *seed: object
) -> Int[Tensor, " n"]:
    """Which of the parts, so large in proportion, each example is in: all examples of a group in
    one part, and every class in all parts as far as that goes.

    Groups of several are placed one after the other, the largest first, where they fit best; the
    others fill up what is missing.
    """
    _, number, size = groups.unique(return_inverse=True, return_counts=True)
    classes = int(labels.max()) + 1
    want = torch.tensor(shares)[:, None] * labels.bincount(minlength=classes)
    load, part = torch.zeros_like(want), torch.full((len(labels),), -1)
    members = number.argsort(stable=True).split(size.tolist())
    order = permutation(len(size), "groups", *seed)
    order = order[size[order].argsort(descending=True, stable=True)]
    for group in order[size[order] > 1].tolist():
        counts = labels[members[group]].bincount(minlength=classes)
        room = (want - load) / torch.tensor(shares)[:, None]
        fits = int(((room * counts).sum(1) + room.sum(1) * counts.sum() / classes).argmax())
        part[members[group]] = fits
        load[fits] += counts
    for k in range(classes):
        rows = ((part < 0) & (labels == k)).nonzero()[:, 0]
        rows = rows[permutation(len(rows), "parts", *seed, k)]
        left = (want[:, k] - load[:, k]).clamp_min(0)
        left = left if float(left.sum()) > 0 else torch.tensor(shares)
        ends = (left.cumsum(0) / left.sum() * len(rows)).round().long()
        part[rows] = torch.searchsorted(ends, torch.arange(len(rows)), right=True)
    return part


def marks(values: Iterable[object]) -> Int[Tensor, " n"]:
    """A number for each value, the same wherever it stands; None is unlike all others."""
    found = []
    for row, value in enumerate(values):
        text = f"row {row}" if value is None else f"={value}"
        found.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big"))
    return torch.tensor(found, dtype=torch.int64)


def batches(order: Int[Tensor, " N"], batch: int) -> tuple[Int[Tensor, " B"], ...]:
    """Parts of nearly equal size, at most `batch` each: no last step of one image, which BatchNorm
    could not bear.
    """
    return order.tensor_split(-(-len(order) // batch)) if len(order) else ()


@contextlib.contextmanager
def seeded(*seed: object) -> Iterator[None]:
    """Inside, torch's own random numbers come from this seed; the global generator's state is
    restored afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(*seed))
        yield
