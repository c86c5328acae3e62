"""A folder with one folder of images a class, under `train/`, `val/` or `test/` if there are
such.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from datablame.base import progress
from datablame.base.decode import content
from datablame.base.errors import InputError
from datablame.data.packing import packed
from datablame.dataset import Dataset

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing", "val", "valid", "validation"),
}


def folder(
    where: str, split: str = "train", limit: int | None = None, size: int | None = None
) -> Dataset | None:
    """Class folders of images: photos/cat/1.jpg, or photos/train/cat/1.jpg; `val` serves as test
    where there is no `test`.
    """
    root = Path(where)
    if not root.is_dir():
        raise InputError(f"there is no folder {where}")
    splits = {child.name.lower(): child for child in root.iterdir() if child.is_dir()}
    if any(
        name in splits and any(child.is_dir() for child in splits[name].iterdir())
        for name in SPLITS["train"]
    ):
        top = next((splits[name] for name in SPLITS[split] if name in splits), None)
    else:
        top = root if split == "train" else None
    if top is None:
        return None
    classes = sorted(
        child.name for child in top.iterdir() if child.is_dir() and not child.name.startswith(".")
    )
    for name in classes:
        if name.encode(errors="replace").decode() != name:
            raise InputError(
                f"a class folder under {top} has a name that is not UTF-8 "
                f"({os.fsencode(name)!r}): rename it"
            )
    files = [
        (file, number)
        for number, name in enumerate(classes)
        for file in sorted((top / name).rglob("*"))
        if file.suffix.lower() in ENDINGS and not file.name.startswith(".")
    ]
    if not files:
        raise InputError(
            f"no images in class folders under {top}; a folder of folders is expected: "
            f"{where}/cat/1.jpg, {where}/dog/2.jpg"
        )
    progress.say(f"{top}: {len(files):,} images in {len(classes)} class folders")
    if limit and limit < len(files):  # spread over the classes: they lie one after the other
        files = [files[i * len(files) // limit] for i in range(limit)]
    paths, labels = zip(*files, strict=True)
    data = packed(
        paths,
        lambda i: content(paths[i]),
        labels,
        tuple(classes),
        [str(path.relative_to(root)).encode(errors="replace").decode() for path in paths],
        size=size,
        source=root.absolute().name,
        split=split,
    )
    return dataclasses.replace(data, root=str(root.absolute()))
