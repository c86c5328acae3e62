"""Sets from what people hold in Python: arrays, lists of pictures, torch and Hugging Face datasets,
frames of paths.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from datablame.base import devices, readers
from datablame.base.errors import InputError
from datablame.data.objects import gap, numbered, of_arrays, of_files, of_map, of_paths, samples_of
from datablame.dataset import Dataset
from datablame.methods.sources.hub import hub, of_library, spooled

KINDS = (
    "a path, a name, a Dataset, (images, labels), a torchvision ImageFolder, any torch dataset "
    "with a length, a Hugging Face Dataset with an image column (or a stream of it), or a frame of "
    "paths and labels"
)


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
    if hasattr(source, "with_format") and hasattr(source, "take"):
        return of_stream(source, size)
    if hasattr(source, "columns") and (hasattr(source, "iloc") or hasattr(source, "to_arrow")):
        return of_frame(source, size)
    if samples := samples_of(source):
        return of_files(samples, source, size)
    if hasattr(source, "batch_size") and (inner := getattr(source, "dataset", None)) is not None:
        return dataset_of(inner, size)  # a DataLoader
    if hasattr(source, "__len__") and hasattr(source, "__getitem__") and not _is_array(source):
        return of_map(source, size)
    lone = "; an array of images needs its labels: (images, labels)" if _is_array(source) else ""
    raise InputError(f"a source is {KINDS}; got {type(source).__name__}{lone}")


def _is_array(source: Any) -> bool:
    return hasattr(source, "shape") or isinstance(source, (list, tuple, dict, str, bytes))


def predictions(path: Path) -> dict[str, Any] | None:
    """Labels, pred_probs and what else a file of predictions holds, as `find` takes them; None for
    a file that is none.

    An `.npz` file with these arrays, or Parquet with a column `label` and a column `pred_probs` of
    lists. Raises InputError where one of the two is missing.
    """
    if path.suffix == ".npz":
        known = readers.read_arrays(path, devices.free() // 2)
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


def of_frame(frame: Any, size: int | None = None) -> Dataset:
    """A frame with a column of paths of images, and one of labels.

    Raises InputError where it cannot tell which these are.
    """
    columns = {str(name): list(frame[name]) for name in frame.columns}
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
    cells = columns[(likely or rest)[0]]
    if any(map(gap, cells)):
        raise InputError("some labels of this frame are missing; leave these rows out")
    numbers, words = numbered(np.array(cells, dtype=object))
    labels = _whole(numbers)
    files = [Path(path) for path in columns[paths]]
    known = words or list(map(str, range(max(labels) + 1)))
    return of_paths(files, labels, tuple(known), Path("."), size)


def _whole(labels: Any) -> list[int]:
    """Class numbers. Raises InputError for anything else."""
    found = [int(label) for label in labels if isinstance(label, (int, float, np.number))]
    if len(found) < len(labels) or any(a != b for a, b in zip(found, labels, strict=True)):
        raise InputError("labels of a frame are words or whole numbers, all of one kind")
    return found


def of_hugging_face(rows: Any, size: int | None = None) -> Dataset:
    """A Hugging Face Dataset with an image column and a label."""
    title = getattr(rows.info, "dataset_name", None) or "dataset"
    return of_library(rows, str(title), "this dataset", "train", None, (), None, None, None, size)


def of_stream(rows: Any, size: int | None = None) -> Dataset:
    """A streaming Hugging Face Dataset, which is read to its end (`take` gives one that ends) and
    kept as Parquet in the cache.
    """
    data = hub(str(spooled(rows)), size=size)
    assert data is not None
    title = getattr(rows.info, "dataset_name", None) or "stream"
    return dataclasses.replace(data, source=str(title))
