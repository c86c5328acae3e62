"""YOLO: a text file an image, a line a box: class, centre and size in shares of the image.

Redmon et al., 2016. You only look once. arXiv:1506.02640; the layout is that of Ultralytics.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from datablame.base.decode import endings
from datablame.base.errors import InputError
from datablame.base.originals import Place
from datablame.base.readers import read_text
from datablame.boxes.box import SPLITS, Box, Changes, under

CLASSES = ("classes.txt", "obj.names", "labels/classes.txt")


class Yolo:
    """The boxes of the label files of a split; polygons count by the box around them. Names end in
    the number of the line.
    """

    ending = ""

    def __init__(self, root: Path, names: list[str], images: list[Path], where: Path):
        self.root, self.images, self.where = root.absolute(), images, where
        self.classes = tuple(names)

    def boxes(self) -> Iterator[Box]:
        """Raises InputError for a line that is no box, and for a class that is not there."""
        for image, path in self._files():
            for key, line in enumerate(read_text(path).splitlines(), 1):
                if line.strip():
                    label, place = self._box(line, f"{path}, line {key}")
                    yield Box(image, key, label, place)

    def _box(self, line: str, where: str) -> tuple[int, Place]:
        try:
            label, *numbers = map(float, line.split())
            number = int(label)
            if number != label or len(numbers) < 4:
                raise ValueError
        except (ValueError, OverflowError):
            raise InputError(
                f"{where} is no box: class, centre and size are expected, and it says {line[:40]!r}"
            ) from None
        if not 0 <= number < len(self.classes):
            raise InputError(
                f"{where}: no class {number}; there is: {', '.join(self.classes[:5])}"
                f"{', ...' if len(self.classes) > 5 else ''} (0 to {len(self.classes) - 1})"
            )
        if len(numbers) >= 6 and len(numbers) % 2 == 0:  # a polygon
            left, top = min(numbers[::2]), min(numbers[1::2])
            width, height = max(numbers[::2]) - left, max(numbers[1::2]) - top
        else:
            x, y, width, height = numbers[:4]
            left, top = x - width / 2, y - height / 2
        return number, (left, top, width, height, 1.0, 1.0)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """(path of an image under the root, its label file), where there is one."""
        for image in self.images:
            parts = list(image.parts)
            if "images" in parts:  # the last of them, as Ultralytics does it
                parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
            for path in (Path(*parts).with_suffix(".txt"), image.with_suffix(".txt")):
                if path.is_file():
                    yield under(self.root, str(image.absolute()), self.where), path
                    break

    def changed(self, to: Changes) -> Iterator[tuple[str, bytes]]:
        """The label files, with the classes of these lines changed, or the lines left out."""
        for image, path in self._files():
            lines = read_text(path).splitlines(keepends=True)
            names = [f"{image}#{key}" for key in range(1, len(lines) + 1)]
            kept = [
                line if name not in to else _of_class(line, to[name])
                for name, line in zip(names, lines, strict=True)
            ]
            yield under(self.root, str(path.absolute()), self.where), "".join(kept).encode()


def _of_class(line: str, label: int | None) -> str:
    """A line with another class; nothing where it is left out."""
    if label is None:
        return ""
    return re.sub(r"\S+", str(label), line, count=1)


def read(where: Path, split: str) -> Yolo | None:
    """The set of a `data.yaml`, or of a folder with `images` and `labels`; None where it has no
    such split.

    Raises InputError where it is none, or its images are not there.
    """
    if where.is_dir():
        about = described(where)
        if about is None:
            return _undescribed(where, split)
        where = about
    facts = _facts(where)
    if facts is None:
        raise InputError(f"{where} tells of no YOLO set: it has no names and train")
    base = next(
        (
            path
            for path in (where.parent / str(facts.get("path") or "."), where.parent)
            if path.is_dir()
        ),
        where.parent,
    )
    listed = next((facts[word] for word in SPLITS[split] if facts.get(word)), None)
    if listed is None:
        return None
    places = [str(place) for place in (listed if isinstance(listed, list) else [listed])]
    images = [image for place in places for image in _images(base, place, where)]
    names = facts["names"]
    if isinstance(names, dict):
        numbers = [number for number in names if isinstance(number, int)]
        whole = [(number, str(names[number])) for number in sorted(numbers)]
        if len(whole) < len(names) or [number for number, _ in whole] != list(range(len(whole))):
            raise InputError(f"{where}: its names are not numbered from 0 without gaps")
        names = [name for _, name in whole]
    return Yolo(base, [str(name) for name in names], images, where)


def _undescribed(folder: Path, split: str) -> Yolo | None:
    """A folder with images and labels that no YAML file tells of."""
    names = next((folder / name for name in CLASSES if (folder / name).is_file()), None)
    if names is None:
        raise InputError(
            f"{folder} has label files, but no data.yaml or {CLASSES[0]} names the classes"
        )
    words = [line.strip() for line in read_text(names).splitlines() if line.strip()]
    top = folder / "images"
    there = next((top / word for word in SPLITS[split] if (top / word).is_dir()), None)
    if there is None and (split != "train" or any((top / "val").glob("*"))):
        return None
    return Yolo(folder, words, _images(folder, str(there or top), folder), folder)


def _images(base: Path, place: str, where: Path) -> list[Path]:
    """The images of a folder, or those that a text file lists."""
    path = base / place
    if not path.exists():  # as some tools write them: ../train/images, seen from nowhere
        path = base / place.replace("../", "")
    if path.is_file():
        lines = [line.strip() for line in read_text(path).splitlines()]
        found = [base / line for line in lines if line]
    else:
        found = [each for each in sorted(path.rglob("*")) if each.suffix.lower() in endings()]
    if not found:
        raise InputError(f"{where} has its images in {place}, where there are none")
    return found


def _facts(path: Path) -> dict[str, Any] | None:
    """What a YAML file says, where it tells of a set of this format."""
    try:
        facts = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    known = isinstance(facts, dict) and isinstance(facts.get("names"), (dict, list))
    return facts if known and any(facts.get(word) for word in ("train", "val", "test")) else None


def described(folder: Path) -> Path | None:
    """The YAML file of a folder that tells of a set of this format."""
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            if _facts(path):
                return path
        except InputError:
            continue
    return None
