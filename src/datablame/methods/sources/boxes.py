"""Boxes on images, as COCO, YOLO or Pascal VOC keep them: an example each, of its class."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from datablame.base import decode, progress
from datablame.base.errors import InputError
from datablame.base.originals import Crops
from datablame.boxes.box import framed
from datablame.boxes.formats import opened
from datablame.data.packing import packed
from datablame.dataset import Dataset


def boxes(
    where: str,
    split: str = "train",
    image: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """A COCO file, the data.yaml or folder of a YOLO set, a folder of Pascal VOC. An example is a
    square about a box, named `image#number`; `image` names the folder of the images of a COCO file.

    Raises InputError where nothing can be read, and for a class that is not there; boxes of no size
    or outside their image are set aside.
    """
    source = opened(Path(where), split, Path(image) if image else None)
    if source is None:
        return None
    with progress.stage("read boxes"):
        there = framed(source)
    if twice := [name for name, count in Counter(box.name for box in there).items() if count > 1]:
        raise InputError(f"{where}: two boxes are called {twice[0]}")
    aside = [(box.name, box.why) for box in there if box.why]
    good = [box for box in there if not box.why]
    for why, count in Counter(why for _, why in aside).items():
        first = next(name for name, each in aside if each == why)
        progress.say(f"{count:,} x {why}, left as they are: {first}{', ...' if count > 1 else ''}")
    if not good:
        raise InputError(f"{where} has no box that could be looked at")
    if limit and limit < len(good):  # spread over the images
        good = [good[i * len(good) // limit] for i in range(limit)]
    images = len({box.image for box in good})
    progress.say(
        f"{where}: {len(good):,} boxes of {len(source.classes)} classes on {images:,} images; "
        "found are wrong classes, not boxes in wrong places or missing"
    )
    paths = [source.root / box.image for box in good]
    crops = Crops(
        paths,
        names := [box.name for box in good],
        [box.place for box in good],
        str(source.root),
        str(Path(where).absolute()),
        split,
        source.ending,
        str(Path(image).absolute()) if image else None,
    )
    data = packed(
        decode.key("boxes", [(box.name, box.place) for box in good]),
        crops,
        [box.label for box in good],
        source.classes,
        names,
        size=size,
        source=_called(Path(where).absolute()),
        split=split,
    )
    return dataclasses.replace(data, aside=(*data.aside, *sorted(aside)))


def _called(path: Path) -> str:
    """A set's name: of its file, or of the folder where that is called as all are."""
    plain = path.is_file() and path.stem in ("data", "dataset", "_annotations.coco")
    return path.parent.name if plain else path.stem
