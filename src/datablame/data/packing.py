"""Packing: encoded images with labels become a Dataset over one memory-mapped array in the cache,
decoded once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from datablame.base import (
    arrays,
    decode,
    devices,
    environment,
    folders,
    processes,
    progress,
    readers,
)
from datablame.base import files as disk
from datablame.base.errors import InputError
from datablame.base.images import Packed, statistics
from datablame.base.originals import Originals
from datablame.dataset import UNREADABLE, Dataset, unique

CHUNK, BLOCK = 128, 4096
"""Images that a thread decodes at a time, and that are hashed together."""
LAYOUT = 4
"""Of a folder in the cache, and of how pictures are decoded into it."""


def packed(
    mark: str,
    originals: Originals,
    labels: Any,
    classes: tuple[str, ...],
    names: Sequence[str] | pa.Array,
    truth: Any = None,
    size: int | None = None,
    source: str = "",
    split: str = "train",
) -> Dataset:
    """A Dataset of encoded images. The cached array serves as long as the files of the originals do
    not change, and `mark`, which says what else decides.

    Raises InputError where nothing can be decoded, or the labels do not fit. Images that cannot be
    decoded are left out and named.
    """
    photo = 128 if devices.device().type == "cuda" else 64
    paths = originals.watched()
    before = decode.facts(paths)
    stamp = decode.stamp(paths, before)
    folder = (
        environment.cache() / "packed" / decode.key(LAYOUT, mark, stamp, len(labels), size, photo)
    )
    about = folder / "about.json"
    processes.alike("what is known of the source's files", folder.name)

    def there() -> bool:
        return processes.agree(about.exists() and (folder / "images.npy").exists())

    if not there():
        with progress.stage("decode images"), folders.alone(folder, patient=True):
            if not there():  # another program may have made it in the meantime
                made = pack(folder / "images.npy", originals, len(labels), size, photo)
                _unchanged(paths, before, decode.facts(paths))
                disk.write_json(about, made)
    facts = readers.read_json(about, digest=str, broken=list, native=list, mean=list, std=list)
    images = Packed.open(folder / "images.npy", facts["digest"]).of(originals, facts["native"])
    truth = None if truth is None else torch.as_tensor(np.asarray(truth)).long()
    labels = torch.as_tensor(np.asarray(labels)).long()
    names = names if isinstance(names, pa.Array) else pa.array(names)
    data = Dataset(
        images,
        labels,
        unique(classes),
        names,
        torch.arange(len(labels)),
        truth,
        source,
        split,
        tuple(facts["mean"]),
        tuple(facts["std"]),
    )
    return (_without(data, facts["broken"]) if facts["broken"] else data).checked()


def pack(
    path: Path, originals: Originals, count: int, size: int | None, photo: int
) -> dict[str, Any]:
    """Write `count` images to the `.npy` file `path`, and the (width, height) that each has by
    itself to `sizes.npy` beside it; return their digest, the rows that could not be decoded
    (`broken`), of a sample the median width and height (`native`), and what `statistics` says: the
    whole of it at rank 0. Each process decodes rows that follow each other.

    Where reading an image raises OSError, it counts as unreadable. `size` is the side in pixels;
    without it, images of one common small size keep it and all others get the side `photo`.
    Unreadable images leave a black row, for the caller to drop.
    """
    decode.endings()  # what reads them is set up
    channels, extent, native = processes.agree(_common(originals, count, size, photo))
    shape = count, channels, *extent[::-1]
    packed = arrays.mapped(path, shape if processes.rank() == 0 else (0,), "uint8")
    sizes, broken = np.zeros((count, 2), "int32"), []
    digest, hashed = hashlib.blake2b(digest_size=16), 0
    mine = processes.shard(torch.arange(count))
    chunks = [range(int(x[0]), int(x[-1]) + 1) for x in mine.split(CHUNK) if len(x)]
    rounds = -(-count // processes.size() // CHUNK)  # as many as rank 0 has
    made = _decoded([*chunks, *[range(0)] * (rounds - len(chunks))], originals, channels, extent)
    for found in progress.track(made, rounds, "decoding", f"x {CHUNK * processes.size():,} images"):
        rows, pixels, facts = (processes.collected(part).numpy() for part in found)
        if len(rows):  # at rank 0
            packed[rows], sizes[rows] = pixels, facts[:, :2]
        broken += rows[facts[:, 2] > 0].tolist()
        if len(rows) and rows[0] == hashed:  # in order: rank 0's own come first
            hashed += len(found[0])
            digest.update(pixels[: len(found[0])].data)
    mean, std = None, None
    if processes.rank() == 0:
        packed.flush()
        for low in range(hashed, count, BLOCK):
            digest.update(packed[low : low + BLOCK].data)
        mean, std = statistics(Packed.open(path, digest.hexdigest()))
    arrays.write(path.with_name(decode.SIZES), sizes)
    about = {"digest": digest.hexdigest(), "broken": sorted(broken), "native": native}
    return about | {"mean": mean, "std": std}


def _decoded(
    chunks: Sequence[range], originals: Originals, channels: int, extent: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(rows, pixels, and of each its width, its height, and whether it is lost) of each chunk, in
    order, by all cores that this process has; a few are made ahead.
    """
    width, height = extent
    many = getattr(originals, "many", None)

    def chunk(rows: range) -> tuple[Tensor, Tensor, Tensor]:
        pixels = np.zeros((len(rows), channels, height, width), "uint8")
        facts = np.zeros((len(rows), 3), "int32")
        contents = many(rows) if many and len(rows) else (_content(originals, row) for row in rows)
        for place, content in enumerate(contents):
            found = decode.decoded(content, channels, width, height)
            if found is None:
                facts[place, 2] = 1
            else:
                pixels[place], facts[place, :2] = found
        return (
            torch.arange(rows.start, rows.stop),
            torch.from_numpy(pixels),
            torch.from_numpy(facts),
        )

    cores = max(1, (os.cpu_count() or 1) // devices.beside())
    with ThreadPoolExecutor(cores) as pool:
        coming: deque[Future] = deque()
        try:
            for rows in chunks:
                coming.append(pool.submit(chunk, rows))
                if len(coming) > 2 * cores:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _content(originals: Originals, row: int) -> bytes:
    """The bytes of an image; none where it cannot be read."""
    try:
        return originals.read(row)
    except OSError:
        return b""


def _common(
    originals: Originals, count: int, size: int | None, photo: int
) -> tuple[int, tuple[int, int], list[int]]:
    """(channels, the width and height that all are brought to, the median of their own), by a
    sample of them. Raises InputError where none of it is an image.
    """
    some = np.linspace(0, count - 1, min(count, 64)).astype(int).tolist()
    seen = [found for found in (decode.peek(_content(originals, i)) for i in some) if found]
    if not seen:
        raise InputError("none of these files can be read as an image")
    extents = [extent for extent, _ in seen]
    kept = size is None and len(set(extents)) == 1 and max(extents[0]) <= decode.SMALL
    side, native = size or photo, np.median(extents, 0).astype(int).tolist()
    return 1 if all(grey for _, grey in seen) else 3, extents[0] if kept else (side, side), native


def _unchanged(paths: Sequence[str], before: np.ndarray, after: np.ndarray) -> None:
    """Raises InputError where files changed between two looks at them; those that are gone are left
    out.
    """
    moved = np.flatnonzero((before != after).any(1) & after.any(1))
    if len(moved):
        raise InputError(
            f"{len(moved):,} files changed while they were read, such as {paths[moved[0]]}; run "
            "the same command again"
        )


def _without(data: Dataset, broken: list[int]) -> Dataset:
    """A set without the images that cannot be read, which are named."""
    lost = tuple(data.name(row) for row in broken)
    progress.say(
        f"left out {len(lost):,} images that cannot be read: "
        f"{', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
    )
    whole = torch.ones(len(data), dtype=torch.bool)
    whole[broken] = False
    return dataclasses.replace(data.take(whole), aside=tuple((name, UNREADABLE) for name in lost))
