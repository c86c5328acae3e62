"""What all formats of boxes have in common."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from datablame.base import decode
from datablame.base.errors import InputError
from datablame.base.originals import Place

EMPTY, OUTSIDE, NOWHERE = "box without size", "box outside its image", "box without a place"
"""Why a box is not looked at."""
SPLITS = {"train": ("train",), "test": ("test", "val", "valid")}
"""Words for a split in the names of files and folders."""
Changes = Mapping[str, int | None]
"""To which class boxes are changed, by name; None for one that is left out."""


class Box(NamedTuple):
    """A box of a class. `image` is the path of its image under the root, `key` its number there."""

    image: str
    key: Any
    label: int
    place: Place

    @property
    def name(self) -> str:
        return f"{self.image}#{self.key}"

    @property
    def why(self) -> str:
        """Why it is not looked at; nothing where it is."""
        left, top, width, height, wide, high = self.place
        if not all(map(math.isfinite, self.place)) or wide <= 0 or high <= 0:
            return NOWHERE
        if width <= 0 or height <= 0:
            return EMPTY
        inside = left < wide and top < high and left + width > 0 and top + height > 0
        return "" if inside else OUTSIDE


@runtime_checkable
class Annotations(Protocol):
    """A set of boxes: `boxes` of `classes` on images under `root`. `changed` gives the files that
    hold them (name, content), a single one where these are one file: what is not changed is as it
    was. `ending` is that of the path they are written to, nothing where it is a folder.
    """

    ending: str
    root: Path
    classes: tuple[str, ...]

    def boxes(self) -> Iterator[Box]: ...
    def changed(self, to: Changes) -> Iterator[tuple[str, bytes]]: ...


def framed(source: Annotations) -> list[Box]:
    """All boxes of a set; where its files do not tell the size of an image, by the image itself."""
    found = []
    for image, several in itertools.groupby(source.boxes(), lambda box: box.image):
        known: tuple[int, int] | None = None
        for box in several:
            if box.place[4:] == (0.0, 0.0):
                known = known or decode.extent(source.root / image) or (0, 0)
                box = box._replace(place=(*box.place[:4], *map(float, known)))
            found.append(box)
    return found


def under(root: Path, name: str, where: Path) -> str:
    """The path of a file under its root. Raises InputError for one elsewhere."""
    path = Path(os.path.abspath(root / name))
    if not path.is_relative_to(os.path.abspath(root)):
        raise InputError(f"{where} names {name}, which lies outside of {root}")
    return path.relative_to(os.path.abspath(root)).as_posix()
