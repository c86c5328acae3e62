"""Sets from what people hold in Python: arrays, lists of pictures, torch and Hugging Face datasets,
frames of paths.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from datablame.base import decode, processes, progress, readers
from datablame.base.errors import InputError, unknown
from datablame.base.originals import Files, Held
from datablame.data.annotators import labelled
from datablame.data.packing import packed
from datablame.dataset import Dataset
from datablame.methods.sources.hub import of_rows

KINDS = (
    "a path, a name, a Dataset, (images, labels), a torchvision ImageFolder, any torch dataset "
    "with a length, a Hugging Face Dataset with an image column, or a frame of paths and labels"
)
PHOTO = 64
"""Side in pixels to which pictures of several sizes are brought."""


def dataset_of(source: Any, size: int | None = None) -> Dataset:
    """A set of whatever has labels.

    `(images, labels)`: images [N,C,H,W], [N,H,W,C] or [N,H,W], bytes or floats in [0, 1], or a list
    of pictures; labels are whole numbers or words. Raises InputError for anything else, with what
    can be given.
    """
    if isinstance(source, (tuple, list)) and len(source) == 2:
        return of_arrays(*source, size=size)
    if hasattr(source, "with_format") and hasattr(source, "_fingerprint"):
        return of_hugging_face(source, size)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        return of_frame(source, size)
    if isinstance(samples := getattr(source, "samples", None), list) and samples:
        return of_files(samples, source, size)
    if hasattr(source, "batch_size") and (inner := getattr(source, "dataset", None)) is not None:
        return dataset_of(inner, size)  # a DataLoader
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not _is_array(source):
        return of_map(source, size)
    lone = "; an array of images needs its labels: (images, labels)" if _is_array(source) else ""
    raise InputError(f"a source is {KINDS}; got {type(source).__name__}{lone}")


def _is_array(source: Any) -> bool:
    return hasattr(source, "shape") or isinstance(source, (list, tuple, dict, str, bytes))


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
    gaps = np.array([_gap(cell) for cell in cells], bool)
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


def _gap(cell: Any) -> bool:
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


def predictions(path: Path) -> dict[str, Any] | None:
    """Labels, pred_probs and what else a file of predictions holds, as `find` takes them; None for
    a file that is none.

    An `.npz` file with these arrays, or Parquet with a column `label` and a column `pred_probs` of
    lists. Raises InputError where one of the two is missing.
    """
    if path.suffix == ".npz":
        known = readers.read_arrays(path, processes.free() // 2)
        if "features" in known and "pred_probs" not in known:
            return None  # a set of features
        if missing := [name for name in ("labels", "pred_probs") if name not in known]:
            raise InputError(
                f"{path} holds {', '.join(known)}; predictions are the arrays labels [N] and "
                f"pred_probs [N,K], and features [N,D], classes and names if you like (missing: "
                f"{', '.join(missing)})"
            )
        wanted = ("labels", "pred_probs", "features", "images", "classes", "names")
        return {name: known[name] for name in wanted if name in known}
    if path.suffix != ".parquet" or not path.is_file():
        return None
    from pyarrow import parquet

    try:
        there = parquet.read_schema(path).names
    except (OSError, ValueError):
        return None  # said by who reads it as images
    if "pred_probs" not in there:
        return None
    table = readers.read_table(path)
    label = next((name for name in ("label", "labels", "given") if name in there), None)
    if label is None:
        raise InputError(f"{path} has pred_probs, but no column label; it has {', '.join(there)}")
    found = {"labels": table[label].to_pylist(), "pred_probs": table["pred_probs"].to_pylist()}
    more = {"features": "features", "name": "names"}
    return found | {to: table[name].to_pylist() for name, to in more.items() if name in there}


def of_map(source: Any, size: int | None = None) -> Dataset:
    """A torch dataset with a length, whose examples are (picture, label)."""
    if not len(source):
        raise InputError(f"this {type(source).__name__} has no examples")
    pictures, labels = [], []
    for row in progress.track(range(len(source)), len(source), "reading", "examples"):
        example = source[row]
        if not isinstance(example, (tuple, list)) or len(example) < 2:
            raise InputError(
                f"an example of {type(source).__name__} must be (picture, label); example {row} is "
                f"{type(example).__name__}"
            )
        pictures.append(_pixels(example[0]))
        labels.append(example[1].item() if hasattr(example[1], "item") else example[1])
    classes = getattr(source, "classes", None)
    known = [str(name) for name in classes] if isinstance(classes, (list, tuple)) else None
    return dataclasses.replace(
        of_arrays(pictures, labels, known, size), source=type(source).__name__
    )


def of_files(samples: list[tuple[str, int]], source: Any, size: int | None = None) -> Dataset:
    """A torchvision ImageFolder: its files, without its transforms."""
    paths, labels = [Path(path) for path, _ in samples], [int(label) for _, label in samples]
    root = Path(getattr(source, "root", "."))
    return _of_paths(paths, labels, tuple(map(str, source.classes)), root, size)


def of_frame(frame: Any, size: int | None = None) -> Dataset:
    """A frame with a column of paths of images, and one of labels.

    Raises InputError where it cannot tell which these are.
    """
    columns = {str(name): frame[name].tolist() for name in frame.columns}
    if not len(frame):
        raise InputError("this frame has no rows")
    paths = next(
        (
            name
            for name, values in columns.items()
            if isinstance(values[0], (str, Path)) and Path(values[0]).is_file()
        ),
        None,
    )
    rest = [name for name in columns if name != paths]
    likely = [name for name in rest if name.lower() in ("label", "labels", "class", "target", "y")]
    if paths is None or not rest or (len(rest) > 1 and len(likely) != 1):
        raise InputError(
            "a frame needs a column of paths of images that are there, and one called label; this "
            f"has {', '.join(columns)}"
        )
    numbers, words = numbered(np.array(columns[(likely or rest)[0]], dtype=object))
    files = [Path(path) for path in columns[paths]]
    return _of_paths(files, np.asarray(numbers).tolist(), tuple(words or ()), Path("."), size)


def _of_paths(
    paths: list[Path], labels: list[int], classes: tuple[str, ...], root: Path, size: int | None
) -> Dataset:
    root = root.absolute()
    places = [path.absolute() for path in paths]
    inside = all(place.is_relative_to(root) for place in places)
    names = [str(place.relative_to(root) if inside else place) for place in places]
    data = packed(places, Files(places), labels, classes, names, size=size,
                  source=root.name)  # fmt: skip
    return dataclasses.replace(data, root=str(root)) if inside else data


def of_hugging_face(rows: Any, size: int | None = None) -> Dataset:
    """A Hugging Face Dataset with an image column and a label."""
    from pyarrow import dataset

    table = dataset.dataset(rows.with_format("arrow")[:])
    title = getattr(rows.info, "dataset_name", None) or "dataset"
    return of_rows(table, str(title), rows._fingerprint, size=size)
