"""Hugging Face image-classification sets: by name, or Parquet files of the same layout.
huggingface.co/docs/datasets
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from pyarrow import dataset, parquet

from datablame.base import files, readers
from datablame.base.errors import InputError, unknown
from datablame.base.hashing import marks
from datablame.base.originals import Cells, Held
from datablame.data.annotators import labelled
from datablame.data.packing import packed
from datablame.dataset import CLASSES, Dataset

T = TypeVar("T")
LABELS = ("label", "labels", "class", "target", "category", "y")
"""What a column of labels may be called."""


def hub(
    where: str,
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    group: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """Rows of a Hugging Face set (`hub:uoft-cs/cifar10`) or of local Parquet (`train.parquet`), its
    columns selectable.

    `image`, `label`, `truth` and `group` name columns; without them the image column and the class
    label are recognised. Several names of labels are those of as many annotators, who may have left
    gaps. A split without these columns (human noise is recorded for training rows only) is read
    with the truth as its label. `limit` keeps the first rows. Raises InputError for a missing path
    or column.
    """
    path = Path(where)
    rows, title, stamp = _local(path, split) if path.exists() else _remote(where, split)
    if rows is None:
        return None
    there = tuple(map(os.path.abspath, rows.files)) if path.exists() else ()
    return of_rows(rows, title, stamp, where, split, image, label, truth, limit, size, there, group)


def of_rows(
    rows: Any,
    title: str,
    stamp: str,
    where: str = "this dataset",
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    limit: int | None = None,
    size: int | None = None,
    paths: tuple[str, ...] = (),
    group: str | None = None,
) -> Dataset:
    """Rows of a pyarrow dataset, as `hub` reads them; `stamp` changes when they do. Of Parquet
    files at `paths` the images are read when they are needed.
    """
    if not read(where, rows.count_rows):
        raise InputError(f"{where} has no rows")
    features, there = _feature_types(rows.schema), rows.schema.names
    pictures = [name for name, kind in features.items() if kind == "Image"]
    image = column(there, image, [*pictures, "image", "img"], "image", where)
    if features.get(image) != "Image":
        raise InputError(
            f"column {image} of {where} holds {rows.schema.field(image).type}, not the "
            "bytes of images"
        )
    given = labels_of(features, there, label, truth, where)
    if truth is not None and truth not in there:
        raise unknown(f"column for the truth in {where}", truth, there)
    if group is not None:
        column(there, group, (), "group", where)
    columns = [*given, *filter(None, (truth, group)), *([] if paths else [image])]
    wanted = list(dict.fromkeys(columns))
    take = (lambda **only: rows.head(limit, **only)) if limit else rows.to_table
    table = read(where, lambda: take(columns=wanted))
    kind = features.get(given[0])
    classes, votes = together([table[name] for name in given], kind, given)
    right = (
        numbered(table[truth], features.get(truth) or kind, truth, classes)[1] if truth else None
    )
    originals = Cells(paths, image) if paths else _held(table[image])
    names = [f"{split}/{row:06d}" for row in range(len(table))]
    data = labelled(
        lambda labels: packed(
            f"{stamp} {image} {split}",
            originals,
            labels,
            classes,
            names,
            None if [truth] == given else right,
            size,
            title,
            split,
        ),
        votes.T if len(given) > 1 else votes[0],
        given,
    )
    if group is None:
        return data
    return dataclasses.replace(data, groups=marks(table[group].to_pylist())[data.rows])


def _held(cells: pa.ChunkedArray) -> Held:
    """Images that are in memory."""
    encoded = pa.types.is_struct(cells.type)
    cells = files.compute().struct_field(cells, "bytes") if encoded else cells
    return Held(lambda row: cells[row].as_py() or b"")


def read(where: str, read: Callable[[], T]) -> T:
    """What is read off Parquet. Raises InputError where a page of it is damaged."""
    try:
        return read()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{where} cannot be read: {str(error).partition(chr(10))[0]}") from None


def _local(path: Path, split: str) -> tuple[Any, str, str]:
    """(rows, title, stamp) of a Parquet file, or of a split in a folder
    (`train-00000-of-00001.parquet`); None without it.
    """
    files = (
        [path]
        if path.is_file()
        else [file for file in sorted(path.rglob("*.parquet")) if file.name.startswith(split)]
    )
    if not files or (path.is_file() and split != "train"):
        return None, "", ""
    for file in files:
        if not file.is_file():
            raise InputError(f"{file} is not a file")
        read(str(file), lambda file=file: parquet.read_schema(file))
    rows = read(str(path), lambda: dataset.dataset(list(map(str, files)), format="parquet"))
    stamp = [(str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return rows, path.stem if path.is_file() else path.name, repr(stamp)


def _remote(where: str, split: str) -> tuple[Any, str, str]:
    """(rows, title, stamp) of a set of the hub (`hub:name` or `hub:name:configuration`), downloaded
    and kept by Hugging Face `datasets`; with HF_HUB_OFFLINE only what it keeps.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"'{where}' is a set of the hub, which is fetched by: pip install 'datablame[hub]'"
        ) from None
    if files.offline():  # the libraries read the variable once, when they are first imported
        from datasets import config
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True
    name, _, configuration = where.removeprefix("hub:").partition(":")
    try:
        splits = datasets.get_dataset_split_names(name, configuration or None)
        if split not in splits:
            split = next(
                (
                    other
                    for other in ("validation", "valid", "val")
                    if split == "test" and other in splits
                ),
                "",
            )
        if not split:
            return None, "", ""
        rows = datasets.load_dataset(name, configuration or None, split=split)
    except (
        Exception
    ) as error:  # the hub's library raises many kinds, all of which mean: not to be had
        why = f"{type(error).__name__}: {str(error)[:120]}"
        if files.offline():
            why = "it was not fetched before, and --offline (HF_HUB_OFFLINE) forbids the network"
        raise InputError(f"'{where}' cannot be had from the Hugging Face hub: {why}") from None
    return dataset.dataset(rows.with_format("arrow")[:]), name, rows._fingerprint


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


def _feature_types(schema: pa.Schema) -> dict[str, Any]:
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
    place = files.compute().index_in(words, value_set=pa.array(known))
    return known, place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
