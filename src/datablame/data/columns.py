"""Columns of a table of images: which of them holds the images, and which the labels; class numbers
of words, of numbers and of Hugging Face's class labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from datablame.base import progress, readers, tables
from datablame.base.errors import InputError, unknown
from datablame.dataset import CLASSES

T = TypeVar("T")
LABELS = ("label", "labels", "class", "target", "category", "y")
"""What a column of labels may be called."""
TRUTHS = ("truth", "true_label", "clean_label")
"""What a column of right labels may be called, where it is not named."""


def read(where: str, read: Callable[[], T]) -> T:
    """What is read off Parquet. Raises InputError where a page of it is damaged."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {str(error).partition(chr(10))[0]}") from None


def _features(metadata: bytes) -> dict[str, Any]:
    """What Hugging Face's metadata tells of each column; nothing where it cannot be read."""
    try:
        found = readers.parse_json(metadata, "metadata", {})
    except readers.Damaged:
        return {}
    for name in ("info", "features"):
        found = found.get(name)
        if not isinstance(found, dict):
            return {}
    return found


def feature_types(schema: pa.Schema) -> dict[str, Any]:
    """`"Image"`, or the tuple of class names, of each column that the Hugging Face metadata or the
    types tell of.
    """
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = _features(metadata) if metadata else {}
    kinds = {}
    for field in schema:
        feature = features.get(field.name)
        feature = feature if isinstance(feature, dict) else {}
        names = feature.get("names")
        if feature.get("_type") == "ClassLabel" and isinstance(names, list):
            kinds[field.name] = tuple(map(str, names))
        elif (
            feature.get("_type") == "Image"
            or pa.types.is_binary(field.type)
            or pa.types.is_large_binary(field.type)
            or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        ):
            kinds[field.name] = "Image"
    return kinds


def column(
    there: list[str],
    asked: str | None,
    likely: Sequence[str],
    what: str,
    where: str,
    option: str = "",
) -> str:
    """The column asked for, or the likeliest one. Raises InputError where neither is there, with
    the option that names it.
    """
    if asked is None:
        asked = next((name for name in likely if name in there), None)
        if asked is None:
            raise InputError(
                f"which column of {where} is the {what}? there is: {', '.join(there)}; say "
                f"--{option or what} NAME"
            )
    if asked not in there:
        raise unknown(f"column for the {what} in {where}", asked, there)
    return asked


def truth_of(there: list[str], given: Sequence[str], asked: str | None, where: str) -> str | None:
    """The column of the right labels: the one asked for, or one that is called so, which is told.
    Raises InputError where it is not there.
    """
    if asked is not None:
        return column(there, asked, (), "truth", where)
    found = next((name for name in TRUTHS if name in there and name not in given), None)
    if found is not None:
        progress.say(f"{where}: column {found} is taken for the right labels, for measuring only")
    return found


def right_of(
    cells: pa.ChunkedArray, names: Any, title: str, classes: tuple[str, ...]
) -> np.ndarray | None:
    """Class numbers of the right labels, -1 where none is known; None where all are missing."""
    if cells.null_count == len(cells):
        return None
    return numbered(cells, names, title, classes)[1]


def labels_of(
    features: dict[str, Any],
    there: list[str],
    label: str | Sequence[str],
    truth: str | None,
    where: str,
) -> list[str]:
    """The columns of the labels: those asked for, the truth where none of them is there, or the
    likeliest.
    """
    asked = [label] if isinstance(label, str) else list(label)
    if asked and truth in there and not set(asked) & set(there):
        progress.say(f"{where} has no column {', '.join(asked)}: its labels are those of {truth}")
        return [truth]
    likely = [*LABELS, *(n for n, f in features.items() if isinstance(f, tuple))]
    found = [column(there, name, likely, "label", where) for name in asked or [None]]
    if len(set(found)) < len(found):
        raise InputError(f"--label names a column twice: {' '.join(found)}")
    if any(features.get(name) != features.get(found[0]) for name in found):
        raise InputError(f"{', '.join(found)} of {where} name different classes by their numbers")
    return found


def together(
    columns: Sequence[pa.ChunkedArray], names: Any, titles: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, numbers `[M,N]`) of columns of the same classes.

    Raises InputError where some hold words and others numbers.
    """
    kinds = {column.type for column in columns}
    if len(kinds) > 1:
        for column, title in zip(columns, titles, strict=True):
            numbered(column, names, title)  # says what it holds, if that is no label
        numeric = {pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds}
        if len(numeric) > 1:
            raise InputError(f"some of {', '.join(titles)} hold words and others numbers")
        common = pa.float64() if True in numeric else pa.string()
        columns = [column.cast(common) for column in columns]
    cells = pa.chunked_array([chunk for column in columns for chunk in column.chunks])
    classes, numbers = numbered(cells, names, ", ".join(titles))
    return classes, numbers.reshape(len(columns), -1)


def numbered(
    cells: pa.ChunkedArray, names: Any, title: str, classes: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, number of each row's class), by the class names of another column if these are
    given.

    Words are numbered in sorted order; numbers stand for the names that the file gives them, or for
    themselves. A missing label is -1. Raises InputError for a column that holds neither, or for a
    class that the other has not.
    """
    cells = cells.combine_chunks()
    if pa.types.is_floating(cells.type):
        values = cells.fill_null(float("nan")).to_numpy(zero_copy_only=False)
        known = values[~np.isnan(values)]
        if not (np.isfinite(known) & (abs(known) < 2**31)).all() or (known % 1).any():
            raise InputError(
                f"column {title} holds fractions; a label is a class name or a whole number"
            )
        cells = pa.array(
            np.where(np.isnan(values), 0, values).astype("int64"), mask=np.isnan(values)
        )
    if pa.types.is_integer(cells.type):
        whole = cells.cast("int64", safe=False).fill_null(-1)
        number = np.array(whole.to_numpy(zero_copy_only=False))
        if len(number) and not -(2**31) < int(number.min()) <= int(number.max()) < CLASSES:
            raise InputError(
                f"column {title} holds numbers from {number.min():,} to {number.max():,}; labels "
                f"are class numbers below {CLASSES:,}"
            )
        own = (
            names
            if isinstance(names, tuple)
            else tuple(map(str, range(max(int(number.max()) + 1, len(classes or ())))))
        )
        if classes is None or own == classes:
            return own, number
        words = pa.array(own).take(pa.array(number, mask=(number < 0) | (number >= len(own))))
    else:
        try:
            words = cells.cast(pa.string())
        except pa.ArrowException:
            raise InputError(
                f"column {title} holds {cells.type}; a label is a class name or a whole number"
            ) from None
    there = sorted(word for word in words.unique().to_pylist() if word is not None)
    if len(there) > CLASSES or not there:
        raise InputError(f"column {title} holds {len(there):,} different labels")
    known = classes or tuple(there)
    if strange := sorted(set(there) - set(known)):
        raise InputError(
            f"column {title} has classes that the labels have not: {', '.join(strange[:5])}"
        )
    place = tables.compute().index_in(words, value_set=pa.array(known))
    return known, place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
