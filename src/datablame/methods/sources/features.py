"""Features that any encoder has made, of texts, sounds or rows of a table as of images: `.npz`
(features, labels), `.npy` with labels beside it, or Parquet with a column of lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from datablame.base import devices, readers
from datablame.base.errors import InputError, unknown
from datablame.data.columns import LABELS, column
from datablame.dataset import Dataset


def features(
    where: str,
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    limit: int | None = None,
) -> Dataset | None:
    """Features and labels of a file; `image`, `label` and `truth` name arrays or columns. A column
    `name` holds names, `text` what a person reads of each example.

    Raises InputError for an array that is missing, and for features and labels that do not fit.
    """
    path = Path(where)
    if split != "train":
        return None
    known = _columns(path)
    vectors = _vectors(known, image, where)
    asked = [label] if isinstance(label, str) else list(label)
    if len(asked) > 1:
        raise InputError(f"{where} is read with one column of labels; got {' '.join(asked)}")
    given = column(list(known), asked[0] if asked else None, LABELS, "label", where)
    right = None if truth is None else column(list(known), truth, (), "truth", where)
    classes = known.get("classes")
    words, numbers = _numbered(
        [known[name] for name in (given, right) if name is not None],
        None if classes is None else classes.tolist(),
    )
    classes = words if classes is None else [_word(name) for name in classes.tolist()]
    if classes is not None and len(classes) < int(numbers[0].max()) + 1:
        raise InputError(f"{where} names {len(classes)} classes, and has more labels")
    names = next((known[name] for name in ("name", "names", "id") if name in known), None)
    texts = next((known[name] for name in ("text", "texts") if name in known), None)
    data = Dataset.from_features(
        _stacked(known[vectors], vectors),
        numbers[0],
        None if classes is None else [str(name) for name in classes],
        None if names is None else [str(name) for name in names],
        numbers[1] if len(numbers) > 1 else None,
        None if texts is None else [str(text) for text in texts],
        path.stem,
    )
    return data.take(np.arange(min(limit, len(data)))) if limit else data


def holds(path: Path) -> bool:
    """Whether a file is one of features: by its ending, or by the types of its columns."""
    if path.suffix in (".npz", ".npy"):
        return True
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return False  # said by who reads it as images
    pictured = {"image", "img"} & set(schema.names) or any(
        pa.types.is_binary(field.type) or pa.types.is_struct(field.type) for field in schema
    )
    return not pictured and any(_is_vector(field.type) for field in schema)


def _is_vector(kind: Any) -> bool:
    listed = (
        pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_large_list(kind)
    )
    return bool(listed and pa.types.is_floating(kind.value_type))


def _columns(path: Path) -> dict[str, Any]:
    """The arrays or columns of a file, by name. Raises InputError where it is none of ours."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        return _read(path)
    except readers.Damaged as error:
        words = "; words are kept with .astype(str)" if "objects" in error.why else ""
        raise InputError(f"{path} cannot be read as features ({error.why}){words}") from None


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".npz":
        return dict(readers.read_arrays(path, devices.free() // 2))
    if path.suffix == ".parquet":
        table = readers.read_table(path)
        return {name: table[name].combine_chunks() for name in table.column_names}
    beside = [path.with_name(f"{path.stem}{end}") for end in (".labels.npy", "_labels.npy")]
    beside.append(path.with_name("labels.npy"))
    labels = next((each for each in beside if each.is_file()), None)
    if labels is None:
        raise InputError(f"the labels of {path} are not there; put them beside it: {beside[0]}")
    return {"features": readers.read_array(path), "labels": readers.read_array(labels)}


def _vectors(known: dict[str, Any], asked: str | None, where: str) -> str:
    """The name of the array or column that holds the features."""
    likely = [name for name, each in known.items() if _is_vector(getattr(each, "type", pa.null()))]
    likely = ["features", "embeddings", *likely]
    return column(list(known), asked, likely, "features", where, "image")


def _stacked(values: Any, name: str) -> np.ndarray:
    """Features `[N,D]`. Raises InputError where rows are missing or of several lengths."""
    if not isinstance(values, (pa.Array, pa.ChunkedArray)):
        return np.asarray(values)
    lengths = set(values.value_lengths().to_pylist())
    if len(lengths) != 1 or None in lengths:
        raise InputError(f"the rows of {name} are of {len(lengths)} lengths, or missing")
    return np.asarray(values.flatten().to_numpy(zero_copy_only=False)).reshape(len(values), -1)


def _numbered(columns: list[Any], classes: Any) -> tuple[list[str] | None, list[np.ndarray]]:
    """(class names where the labels are words, the class numbers of each column, -1 where missing):
    by `classes` where they are given. Raises InputError for a word that is none of these.
    """
    cells = [each.to_pylist() if isinstance(each, pa.Array) else each.tolist() for each in columns]
    flat = [cell for column in cells for cell in column if not _missing(cell)]
    if all(isinstance(cell, (int, float)) for cell in flat):
        return None, [np.array([-1 if _missing(x) else x for x in column]) for column in cells]
    known = sorted({_word(x) for x in flat}) if classes is None else [_word(x) for x in classes]
    if strange := sorted({_word(x) for x in flat} - set(known)):
        raise unknown("class", strange[0], known)
    place = {name: number for number, name in enumerate(known)}
    numbers = [[-1 if _missing(x) else place[_word(x)] for x in column] for column in cells]
    return known, [np.array(each) for each in numbers]


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _word(cell: Any) -> str:
    return cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell)
