"""COCO: one JSON file of images, categories and annotations.

Lin et al., 2014. Microsoft COCO: common objects in context. arXiv:1405.0312
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datablame.base.errors import InputError, unknown
from datablame.base.readers import parse_json
from datablame.boxes.box import SPLITS, Box, Changes, under

PARTS = ("images", "annotations", "categories")


class Coco:
    """The boxes of a COCO file, but those of crowds. Names end in the annotation's id."""

    ending = ".json"

    def __init__(self, path: Path, images: Path | None = None):
        """Raises InputError where the file is none of this format, or its images are not there."""
        self.path = path
        known = self.known
        for part in PARTS:
            rows = known.get(part) if isinstance(known, dict) else None
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise InputError(f"{path} is no COCO file: it has no list of {part}")
        ids, names = self._columns("categories", "id", "name")
        self.classes = tuple(map(str, names))
        self.number = {id: number for number, id in enumerate(ids)}
        self.ids = ids
        self.files = dict(zip(*self._columns("images", "id", "file_name"), strict=True))
        self.root = (images or self._found()).absolute()

    @functools.cached_property
    def known(self) -> Any:
        """All that the file says."""
        try:
            return parse_json(self.path.read_bytes(), self.path)
        except (OSError, ValueError) as error:
            raise InputError(f"{self.path} is no COCO file: {error}") from None

    def _columns(self, part: str, *names: str) -> list[list[Any]]:
        for row in self.known[part]:
            if lost := [name for name in names if not isinstance(row.get(name), (int, str))]:
                raise InputError(f"{self.path}: one of its {part} has no {lost[0]}")
        return [[row[name] for row in self.known[part]] for name in names]

    def _found(self) -> Path:
        """The folder in which the first image is found: about where the file lies."""
        home = self.path.absolute().parent
        split = self.path.stem.rpartition("_")[2]
        places = [home, home / "images", home.parent, home.parent / "images"]
        places += [above / split for above in places]
        first = str(next(iter(self.files.values()), ""))
        for place in places:
            if first and (place / first).is_file():
                return place
        raise InputError(
            f"the images of {self.path} ({first}, ...) are not beside it; say where: --image FOLDER"
        )

    def boxes(self) -> Iterator[Box]:
        """Raises InputError for an image or a category that is not there."""
        rows = self.known["images"]
        sizes = {row["id"]: _numbers(row, "width", "height") for row in rows}
        for row, image, key, label in self._rows():
            if label is not None:
                left, top, width, height = _numbers(row.get("bbox"), 0, 1, 2, 3)
                wide, high = sizes[row["image_id"]]
                yield Box(image, key, label, (left, top, width, height, wide, high))

    def _rows(self) -> Iterator[tuple[dict[str, Any], str, Any, int | None]]:
        """Each annotation with the path of its image, its id and its class; None for a crowd."""
        paths: dict[Any, str] = {}
        for place, row in enumerate(self.known["annotations"]):
            key, image, category = row.get("id", place), row.get("image_id"), row.get("category_id")
            if not isinstance(image, (int, str)) or image not in self.files:
                raise InputError(f"{self.path}: annotation {key} is of image {image}, not there")
            if not isinstance(category, (int, str)) or category not in self.number:
                what = f"category of annotation {key} in {self.path}:"
                raise unknown(what, str(category), map(str, self.ids))
            if image not in paths:
                paths[image] = under(self.root, str(self.files[image]), self.path)
            yield row, paths[image], key, None if row.get("iscrowd") else self.number[category]

    def changed(self, to: Changes) -> Iterator[tuple[str, bytes]]:
        """The file, with the categories of these boxes changed, or the boxes left out."""
        kept = []
        for row, image, key, label in self._rows():
            now = label if label is None else to.get(f"{image}#{key}", label)
            if label is None or now == label:
                kept.append(row)
            elif now is not None:
                kept.append(row | {"category_id": self.ids[now]})
        text = json.dumps(self.known | {"annotations": kept}, ensure_ascii=False)
        yield self.path.name, text.encode()


def _numbers(values: Any, *keys: Any) -> list[float]:
    """Some of a list or an object, as numbers; 0 where there is none."""
    try:
        return [float(values[key]) for key in keys]
    except (TypeError, ValueError, KeyError, IndexError, OverflowError):
        return [0.0 if isinstance(values, dict) else math.nan] * len(keys)


def find(folder: Path, split: str) -> Path | None:
    """The COCO file of a split: `annotations/instances_train2017.json`, or
    `train/_annotations.coco.json`; None where there is none.
    """
    there = every(folder)
    words = {word: kind for kind, several in SPLITS.items() for word in several}
    known = {}
    for path in there:
        title = re.findall(r"[a-z]+", path.relative_to(folder).as_posix().lower())
        kinds = [kind for word, kind in words.items() if word in title]
        known.setdefault(kinds[0] if kinds else "train", path)
    return known.get(split)


def every(folder: Path) -> list[Path]:
    """All COCO files of a folder, those of instances where there are others."""
    there = [*folder.glob("annotations/*.json"), *folder.glob("*/_annotations.coco.json")]
    there = sorted([*there, *folder.glob("_annotations.coco.json")])
    instances = [path for path in there if path.name.startswith("instances")]
    return instances or there
