"""Sets of what is in memory or listed there: arrays, lists of pictures, torch datasets, paths."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datablame.base import decode, progress
from datablame.base.errors import InputError, unknown
from datablame.base.originals import Files, Held
from datablame.data.annotators import labelled
from datablame.data.packing import packed
from datablame.dataset import Dataset

PHOTO = 64
"""Side in pixels to which pictures of several sizes are brought."""


def of_arrays(
    images: Any, labels: Any, classes: Sequence[str] | None = None, size: int | None = None
) -> Dataset:
    """A set of images and labels in memory."""
    numbers, known = numbered(labels)
    pixels, larger = _stacked(images, size)
    data = labelled(lambda each: Dataset.from_arrays(pixels, each, classes or known), numbers)
    if not larger or data.images is None:
        return data
    high, wide = np.median([picture.shape[1:] for picture in larger], 0).astype(int).tolist()
    originals = Held(lambda row: decode.encoded(decode.picture(larger[row]), compress_level=1))
    return dataclasses.replace(data, images=data.images.of(originals, (wide, high)))


def numbered(labels: Any, classes: Sequence[str] | None = None) -> tuple[Any, list[str] | None]:
    """(class numbers, names of classes where the labels are words, in sorted order or that of
    `classes`). Labels [N,M] of several annotators may have gaps, which are -1. Raises InputError
    for another gap, or a word that is no class.
    """
    array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    array = array.astype(str).astype(object) if array.dtype.kind in "US" else array
    if array.dtype.kind != "O":
        return labels, None
    cells = array.ravel()
    gaps = np.array([gap(cell) for cell in cells], bool)
    if gaps.all() or not all(isinstance(word, str) for word in cells[~gaps]):
        return labels, None
    if gaps.any() and array.ndim == 1:
        raise InputError("some labels are missing; leave these examples out")
    words, place = np.unique(cells[~gaps].astype(str), return_inverse=True)
    known = words.tolist() if classes is None else [str(name) for name in classes]
    if strange := [word for word in words if word not in known]:
        raise unknown("class", str(strange[0]), known)
    numbers = np.full(len(cells), -1)
    numbers[~gaps] = np.array([known.index(word) for word in words])[place]
    numbers = numbers.reshape(array.shape)
    frame: Any = type(labels)
    names = getattr(labels, "columns", None)
    return numbers if names is None else frame(numbers, columns=names), known


def gap(cell: Any) -> bool:
    """Whether an annotator gave no label here: None, NaN, or an empty word."""
    lost = isinstance(cell, float) and math.isnan(cell)
    return lost or cell is None or type(cell).__name__ == "NAType" or cell == ""


def _stacked(images: Any, size: int | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """(uint8 [N,C,H,W] of an array, or of a list of pictures, which are brought to one size; these
    pictures as they were, where they were not that small).
    """
    if isinstance(images, Tensor):
        images = images.detach().cpu().numpy()
    if not hasattr(images, "dtype") and len(images):
        own = [_pixels(image) for image in images]
        shapes = {image.shape[1:] for image in own}
        fit = len(shapes) > 1 or size or max(next(iter(shapes))) > decode.SMALL
        each = [_fitted(image, size or PHOTO) for image in own] if fit else own
        channels = max(len(image) for image in each)
        stacked = np.stack([np.repeat(x, channels // len(x), 0) for x in each])
        return stacked, own if fit else []
    array = np.asarray(images)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim == 4 and array.shape[1] not in (1, 3) and array.shape[3] in (1, 3, 4):
        array = np.ascontiguousarray(array[..., :3].transpose(0, 3, 1, 2))
    return _bytes(array), []


def _bytes(array: np.ndarray) -> np.ndarray:
    """Pixels as bytes: floats in [0, 1] are scaled, those in [0, 255] rounded.

    Raises InputError for floats that are normalised already.
    """
    if array.dtype.kind == "b":
        return array.astype("uint8") * 255
    if array.dtype.kind in "iu":
        if array.size and not 0 <= array.min() <= array.max() <= 255:
            raise InputError(f"pixels go from {array.min()} to {array.max()}; bytes go to 255")
        return array.astype("uint8")
    if array.dtype.kind != "f":
        return array
    low, high = float(np.min(array)), float(np.max(array))
    if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 255:
        raise InputError(
            f"pixels go from {low:.3g} to {high:.3g}: give them as bytes, or as floats from 0 to "
            "1, without a transform that normalises them"
        )
    return np.rint(array * (255 if high <= 1 else 1)).astype("uint8")


def _pixels(image: Any) -> np.ndarray:
    """One picture as uint8 [C,H,W]."""
    if hasattr(image, "convert"):  # Pillow's
        grey = image.mode in ("1", "L")
        array = np.asarray(image.convert("L" if grey else "RGB"))
    else:
        array = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 2:
        array = array[None]
    elif array.ndim == 3 and array.shape[0] not in (1, 3) and array.shape[2] in (1, 3, 4):
        array = array[..., :3].transpose(2, 0, 1)
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise InputError(
            f"a picture is [C,H,W], [H,W,C] or [H,W] with 1 or 3 channels; this is "
            f"{type(image).__name__} {list(np.shape(array))}"
        )
    return _bytes(array)


def _fitted(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture at one size: its shorter side brought to it, the middle cut out."""
    from PIL import Image, ImageOps

    whole = decode.picture(pixels)
    found = np.asarray(ImageOps.fit(whole, (side, side), Image.Resampling.BICUBIC))
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def samples_of(source: Any) -> list[tuple[Any, int]]:
    """(path, class number) of each image of a set that is made of files, as those of torchvision
    are; nothing else.
    """
    for name in ("samples", "_samples"):
        found: Any = getattr(source, name, None)
        if _paired(found):
            return found
    labels: Any = getattr(source, "_labels", None)
    for name in ("_image_files", "_images"):
        paths: Any = getattr(source, name, None)
        fit = isinstance(paths, list) and isinstance(labels, list) and len(paths) == len(labels)
        if fit and _paired(found := list(zip(paths, labels, strict=True))):
            return found
    return []


def _paired(found: Any) -> bool:
    """Whether it is a list of paths with class numbers."""
    return (
        isinstance(found, list)
        and len(found) > 0
        and all(
            isinstance(each, (tuple, list))
            and len(each) == 2
            and isinstance(each[0], (str, Path))
            and isinstance(each[1], int)
            for each in found
        )
    )


def of_files(samples: list[tuple[Any, int]], source: Any, size: int | None = None) -> Dataset:
    """A torchvision ImageFolder, or another set of files: without its transforms."""
    paths, labels = [Path(path) for path, _ in samples], [int(label) for _, label in samples]
    root = Path(getattr(source, "root", "."))
    known = getattr(source, "classes", None) or range(max(labels) + 1)
    return of_paths(paths, labels, tuple(map(str, known)), root, size)


def of_paths(
    paths: list[Path], labels: list[int], classes: tuple[str, ...], root: Path, size: int | None
) -> Dataset:
    """Images at paths; they are named from `root` where all lie under it."""
    root = root.absolute()
    places = [path.absolute() for path in paths]
    inside = all(place.is_relative_to(root) for place in places)
    names = [str(place.relative_to(root) if inside else place) for place in places]
    data = packed("", Files(places), labels, classes, names, size=size,
                  source=root.name)  # fmt: skip
    return dataclasses.replace(data, root=str(root)) if inside else data


def of_map(source: Any, size: int | None = None, limit: int | None = None) -> Dataset:
    """A torch dataset with a length, whose examples are (picture, label); or `limit` of them,
    spread over all.
    """
    if not len(source):
        raise InputError(f"this {type(source).__name__} has no examples")
    pictures, labels = [], []
    count = min(limit or len(source), len(source))
    some = [k * len(source) // count for k in range(count)]
    for row in progress.track(some, count, "reading", "examples"):
        example = source[row]
        if not isinstance(example, (tuple, list)) or len(example) < 2:
            raise InputError(
                f"an example of {type(source).__name__} must be (picture, label); example {row} is "
                f"{type(example).__name__}"
            )
        pictures.append(_pixels(example[0]))
        labels.append(_label(example[1], row, source))
    classes = getattr(source, "classes", None)
    known = [str(name) for name in classes] if isinstance(classes, (list, tuple)) else None
    return dataclasses.replace(
        of_arrays(pictures, labels, known, size), source=type(source).__name__
    )


def _label(value: Any, row: int, source: Any) -> Any:
    """A class number, or a word. Raises InputError for anything else."""
    if getattr(value, "ndim", 1) == 0 or getattr(value, "size", None) == 1:
        value = value.item()
    if not isinstance(value, (int, str)):
        raise InputError(
            f"the label of example {row} of {type(source).__name__} is {type(value).__name__}: it "
            "must be a class number or a word"
        )
    return value
