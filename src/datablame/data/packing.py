"""Packing: encoded images with labels become a Dataset over one memory-mapped array in the cache,
decoded once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datablame.base import decode, processes, progress, readers
from datablame.base import files as disk
from datablame.base.errors import InputError
from datablame.base.images import Packed, statistics
from datablame.base.originals import Originals
from datablame.dataset import UNREADABLE, Dataset, unique

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
    photo = 128 if processes.device().type == "cuda" else 64
    paths = originals.watched()
    before = decode.facts(paths)
    stamp = decode.stamp(paths, before)
    folder = disk.cache() / "packed" / decode.key(LAYOUT, mark, stamp, len(labels), size, photo)
    about = folder / "about.json"
    if not processes.agree(about.exists() and (folder / "images.npy").exists()):
        with progress.stage("decode images"), disk.alone(folder, patient=True):
            made = None
            if processes.rank() == 0 and not (about.exists() and (folder / "images.npy").exists()):
                digest, broken, native = decode.pack(
                    folder / "images.npy",
                    originals.read,
                    len(labels),
                    size,
                    photo,
                    getattr(originals, "many", None),
                )
                _unchanged(paths, before, decode.facts(paths))
                mean, std = statistics(Packed.open(folder / "images.npy", digest))
                made = {"digest": digest, "broken": broken, "native": native}
                made |= {"mean": mean, "std": std}
            if processes.agree(made is not None):
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
