"""Which format a source is in, and what is changed of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from datablame.base.errors import InputError
from datablame.base.originals import Crops, Place
from datablame.boxes import coco, voc, yolo
from datablame.boxes.box import Annotations, framed
from datablame.dataset import Dataset, unique


def holds(path: Path) -> bool:
    """Whether a file or folder is one of boxes: by its ending, or by what lies in it."""
    if path.is_file():
        return path.suffix.lower() in (".json", ".yaml", ".yml")
    return path.is_dir() and _kind(path) is not None


def _kind(folder: Path) -> str | None:
    """The format of a folder; None for one of something else."""
    if coco.every(folder):
        return "coco"
    if yolo.described(folder):
        return "yolo"
    labels = folder / "labels"
    if (folder / "images").is_dir() and any([*labels.glob("*.txt"), *labels.glob("*/*.txt")]):
        return "yolo"
    return "voc" if voc.holds(folder) else None


def opened(where: Path, split: str = "train", images: Path | None = None) -> Annotations | None:
    """The boxes of a split; None where there is no such split. Raises InputError where they cannot
    be read.
    """
    if images is not None and not images.is_dir():
        raise InputError(f"there is no folder of images {images}")
    where = where.absolute()
    kind = _kind(where) if where.is_dir() else where.suffix.lower().strip(".")
    if kind in ("coco", "json"):
        path = coco.find(where, split) if where.is_dir() else where
        return (
            None
            if path is None or (path == where and split != "train")
            else coco.Coco(path, images)
        )
    if images is not None:
        raise InputError(f"{where} says itself where its images are: leave out --image")
    return voc.read(where, split) if kind == "voc" else yolo.read(where, split)


def changed(data: Dataset, crops: Crops, dropped: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """The files that hold the boxes of a set, with the classes that they have in it, and without
    those of `dropped`; what was not read is as it was.

    Raises InputError where they have changed since they were read.
    """
    where = Path(crops.where)
    source = opened(where, crops.split, Path(crops.images) if crops.images else None)
    to = dict(zip(data.names.to_pylist(), data.labels.tolist(), strict=True)) | dict.fromkeys(
        dropped
    )
    wanted, changes = set(to), {}
    for box in framed(source) if source is not None else ():
        if box.name in wanted and np.allclose(_shares(box.place), _shares(crops.known[box.name])):
            wanted.remove(box.name)
            if to[box.name] != box.label:
                changes[box.name] = to[box.name]
    if source is None or wanted or unique(source.classes) != data.classes:
        lost = f" ({len(wanted):,} of its boxes are others now)" if wanted else ""
        raise InputError(f"{where} has changed since it was read{lost}: audit it again")
    return source.changed(changes)


def _shares(place: Place) -> list[float]:
    """A box in shares of its image."""
    left, top, width, height, wide, high = place
    return [left / (wide or 1), top / (high or 1), width / (wide or 1), height / (high or 1)]
