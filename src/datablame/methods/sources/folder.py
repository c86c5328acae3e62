"""A folder with one folder of images a class, under `train/`, `val/` or `test/` if there are
such.
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from pathlib import Path

from datablame.base import progress
from datablame.base.decode import endings
from datablame.base.errors import InputError
from datablame.base.originals import Files
from datablame.data.packing import packed
from datablame.dataset import Dataset

PICTURES = {
    ".heic",
    ".heif",
    ".avif",
    ".jxl",
    ".jp2",
    ".svg",
    ".psd",
    ".raw",
    ".dng",
    ".cr2",
    ".nef",
}
"""Endings of pictures that may be there and not be read."""
SILENT = {"labels.csv", "changes.csv", "thumbs.db", "desktop.ini"}
"""What `clean`, `export` and file managers leave: nothing to tell."""
LOOSE, EMPTY = "in no class folder", "empty class folder"
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
    top = _top(root, split)
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
    there = [
        (file, number)
        for number, name in enumerate(classes)
        for file in sorted((top / name).rglob("*"))
        if not file.name.startswith(".")
    ]
    files = [each for each in there if each[0].suffix.lower() in endings()]
    aside = _aside(top, there, classes)
    if not files:
        loose = sum(why == LOOSE for _, why in aside)
        raise InputError(
            f"no images in class folders under {top}"
            + (f", but {loose:,} pictures beside them" if loose else "")
            + f"; a folder of folders is expected: {where}/cat/1.jpg, {where}/dog/2.jpg"
        )
    progress.say(f"{top}: {len(files):,} images in {len(classes)} class folders")
    if limit and limit < len(files):  # spread over the classes: they lie one after the other
        files = [files[i * len(files) // limit] for i in range(limit)]
    paths, labels = zip(*files, strict=True)
    data = packed(
        "",
        Files(paths),
        labels,
        tuple(classes),
        [_name(path, root) for path in paths],
        size=size,
        source=_called(root.absolute()),
        split=split,
    )
    named = [(_name(path, root), why) for path, why in aside]
    for why, count in Counter(why for _, why in named).items():
        progress.say(
            f"{count:,} {why}: {', '.join(name for name, each in named if each == why)[:60]}"
        )
    return dataclasses.replace(data, root=str(root.absolute()), aside=(*data.aside, *sorted(named)))


def _top(root: Path, split: str) -> Path | None:
    """The folder of a split's class folders; None where there is no such split."""
    splits = {child.name.lower(): child for child in root.iterdir() if child.is_dir()}
    if any(
        name in splits and any(child.is_dir() for child in splits[name].iterdir())
        for name in SPLITS["train"]
    ):
        return next((splits[name] for name in SPLITS[split] if name in splits), None)
    return root if split == "train" else None


def _name(path: Path, root: Path) -> str:
    """A file's name in the set, as UTF-8."""
    return str(path.relative_to(root)).encode(errors="replace").decode()


def _aside(top: Path, there: list[tuple[Path, int]], classes: list[str]) -> list[tuple[Path, str]]:
    """What lies under `top` and is not read, and why; hidden files and those of SILENT are passed
    over.
    """
    read, pictures = endings(), PICTURES | endings()
    full = {number for file, number in there if file.suffix.lower() in read}
    found = [(top / name, EMPTY) for number, name in enumerate(classes) if number not in full]
    beside = [(file, -1) for file in sorted(top.iterdir()) if file.is_file()]
    for file, number in [*there, *beside]:
        kind = file.suffix.lower()
        if file.name.startswith(".") or file.name.lower() in SILENT:
            continue
        if kind not in pictures and not file.is_dir():
            found.append((file, "no picture"))
        elif kind in pictures and number < 0:
            found.append((file, LOOSE))
        elif kind in pictures - read:
            found.append((file, f"{kind} is not read here"))
    return found


def _called(root: Path) -> str:
    """A folder's name; of `photos/train`, photos."""
    splits = {name for names in SPLITS.values() for name in names}
    return root.parent.name if root.name.lower() in splits and root.parent.name else root.name
