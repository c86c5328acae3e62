"""Hugging Face image-classification sets: by name, or Parquet files of the same layout. huggingface.co/docs/datasets"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from datablame.dataset import Dataset
from datablame.ground.errors import InputError, unknown
from datablame.packing import packed


def hub(
    where: str,
    split: str = "train",
    image: str | None = None,
    label: str | None = None,
    truth: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """Rows of a Hugging Face set (`uoft-cs/cifar10`) or of local Parquet (`train.parquet`), its columns selectable.

    `image`, `label` and `truth` name columns; without them the image column and the class label are recognised. A split
    without the label column (human noise is recorded for training rows only) is read with the truth as its label.
    `limit` keeps the first rows. Raises InputError for a missing path or column.
    """
    path = Path(where)
    if path.exists():
        table, title = local(path, split), path.stem if path.is_file() else path.name
        files: Any = [found for found in ([path] if path.is_file() else sorted(path.rglob("*.parquet")))]
    else:
        table, files = remote(where, split)
        title = where
    if table is None:
        return None
    features = feature_types(table.schema)
    image = column(table, image, [n for n, f in features.items() if f == "Image"] or ["image", "img"], "image", where)
    if label is not None and label not in table.column_names and truth in table.column_names:
        label = truth
    label = column(
        table, label, ["label", "labels", *(n for n, f in features.items() if isinstance(f, tuple))], "label", where
    )
    if truth is not None and truth not in table.column_names:
        raise unknown(f"column for the truth in {where}", truth, table.column_names)
    table = (
        table.slice(0, limit).select(list(dict.fromkeys([image, label, *([truth] if truth else [])]))).combine_chunks()
    )
    classes, labels = numbered(table[label], features.get(label))
    right = (
        None
        if truth is None or truth == label
        else numbered(table[truth], features.get(truth) or features.get(label), classes)[1]
    )
    pictures = table[image].combine_chunks()
    cells = pictures.field("bytes") if pa.types.is_struct(pictures.type) else pictures
    names = [f"{split}/{row:06d}" for row in range(len(table))]
    if isinstance(files, list):
        stamp = repr(
            [(f.name, f.stat().st_size, f.stat().st_mtime_ns, str(f.absolute())) for f in files] + [image, split]
        )
    else:
        stamp = f"{files} {image} {split}"
    return packed(stamp, lambda i: cells[i].as_py() or b"", labels, classes, names, right, size, title, split)


def local(path: Path, split: str) -> pa.Table | None:
    """A Parquet file, or the files of a split in a folder (`train-00000-of-00001.parquet`, `data/train.parquet`)."""
    if path.is_file():
        try:
            return parquet.read_table(path) if split == "train" else None
        except pa.ArrowInvalid as error:
            raise InputError(f"{path} is not a Parquet file: {error}") from None
    files = [file for file in sorted(path.rglob("*.parquet")) if file.name.startswith(split)]
    return pa.concat_tables([parquet.read_table(file) for file in files]) if files else None


def remote(where: str, split: str) -> tuple[pa.Table | None, str]:
    """A set of the hub (`name` or `name:configuration`), downloaded and kept by Hugging Face `datasets`."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"there is no path {where}; to fetch a set of that name from the hub: pip install 'datablame[hub]'"
        ) from None
    name, _, configuration = where.partition(":")
    try:
        splits = datasets.get_dataset_split_names(name, configuration or None)
        if split not in splits:
            split = next((other for other in ("validation", "valid", "val") if split == "test" and other in splits), "")
        if not split:
            return None, ""
        rows = datasets.load_dataset(name, configuration or None, split=split)
    except Exception as error:  # the hub's library raises many kinds, all of which mean: not to be had
        raise InputError(
            f"'{where}' is neither a path here nor a set that can be fetched from the Hugging Face hub ({type(error).__name__}: {str(error)[:120]})"
        ) from None
    return rows.with_format("arrow")[:], rows._fingerprint


def feature_types(schema: pa.Schema) -> dict[str, Any]:
    """`"Image"`, or the tuple of class names, of each column that the Hugging Face metadata or the types tell of."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(metadata)["info"]["features"] if metadata else {}
    kinds = {}
    for field in schema:
        feature = features.get(field.name, {})
        if feature.get("_type") == "ClassLabel":
            kinds[field.name] = tuple(feature["names"])
        elif (
            feature.get("_type") == "Image"
            or pa.types.is_binary(field.type)
            or (pa.types.is_struct(field.type) and field.type.get_field_index("bytes") >= 0)
        ):
            kinds[field.name] = "Image"
    return kinds


def column(table: pa.Table, asked: str | None, likely: list[str], what: str, where: str) -> str:
    """The column asked for, or the likeliest one."""
    if asked is None:
        asked = next((name for name in likely if name in table.column_names), None)
        if asked is None:
            raise InputError(
                f"which column of {where} is the {what}? there is: {', '.join(table.column_names)}; say --{what} NAME"
            )
    if asked not in table.column_names:
        raise unknown(f"column for the {what} in {where}", asked, table.column_names)
    return asked


def numbered(
    cells: pa.ChunkedArray, names: Any, classes: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """(class names, number of each row's class); text columns are numbered in sorted order, missing labels are -1."""
    cells = cells.combine_chunks()
    if pa.types.is_integer(cells.type):
        labels = cells.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return classes or (names if isinstance(names, tuple) else tuple(map(str, range(int(labels.max()) + 1)))), labels
    words = cells.cast(pa.string()).to_pylist()
    classes = classes or tuple(sorted({word for word in words if word is not None}))
    number = {name: index for index, name in enumerate(classes)}
    return classes, np.array([number.get(word, -1) for word in words])
