"""Sets written as Parquet or as class folders. The user's own files are copied, never touched."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from datablame.base import files, progress
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.run import plain

MARK = "datablame"
"""Key among the metadata of what is written here."""
GROUP = 2048
"""Rows of a Parquet file written at a time."""


def dump(data: Dataset, path: Path) -> Path:
    """A set as Parquet, or as class folders where the path has no ending.

    Raises InputError for another.
    """
    if path.suffix not in ("", ".parquet"):
        raise InputError(
            f"cannot write a set to '{path}': name a .parquet file, or a folder, without an ending"
        )
    return to_parquet(data, path) if path.suffix else to_folders(data, path)


def png(data: Dataset, row: int) -> bytes:
    from PIL import Image

    pixels = data.images.one(int(data.rows[row])) if data.images else np.zeros((1, 1, 1), "uint8")
    file = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def to_folders(data: Dataset, path: Path) -> Path:
    """A set as a folder of images a class, by the labels that it has, and labels.csv: file, name,
    given, and truth where it is known.

    Files of the user's are copied as they are; other images are PNG. Raises InputError where the
    folder has something in it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} is there and not empty; name a new folder")
    counts = Counter(plain(name).lower() for name in data.classes)
    homes = [
        plain(name) + (f"-{k}" if counts[plain(name).lower()] > 1 else "")
        for k, name in enumerate(data.classes)
    ]
    labels, noisy = data.labels.tolist(), data.images is not None and data.images.noise is not None
    root = Path(data.root) if data.root is not None and not noisy else None

    def content() -> Iterator[tuple[str, bytes]]:
        placed = []
        for row in progress.track(range(len(data)), len(data), "writing", "images"):
            name = Path(data.name(row))
            own = root / name if root and (root / name).is_file() else None
            placed.append(
                f"{homes[labels[row]]}/{row:07d}-{plain(name.stem)}{own.suffix if own else '.png'}"
            )
            yield placed[-1], own.read_bytes() if own else png(data, row)
        classes = np.array([*data.classes, ""])
        truth = {} if data.truth is None else {"truth": classes[data.truth]}
        table = {"file": placed, "name": data.names, "given": classes[data.labels]}
        yield "labels.csv", files.spreadsheet(table | truth)

    return files.write_folder(path, content())


def ours(path: Path) -> bool:
    """Did `to_parquet` write this file?"""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return MARK.encode() in (parquet.read_schema(path).metadata or {})
    except (OSError, pa.ArrowInvalid):
        return False


def to_parquet(data: Dataset, path: Path) -> Path:
    """A set as one Parquet file in the hub's layout: image (PNG bytes), label and truth with their
    class names.

    Raises InputError where a file is there that was not written so: it may be somebody's data.
    """
    import pyarrow as pa
    from pyarrow import parquet

    if path.exists() and not ours(path):
        raise InputError(f"{path} is there and was not written by datablame; name a new file")
    kind = {"_type": "ClassLabel", "names": list(data.classes)}
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": kind}
    whole: dict[str, Any] = {"label": data.labels.numpy()}
    if data.truth is not None:
        features["truth"], whole["truth"] = kind, data.truth.numpy()

    def part(start: int) -> pa.Table:
        rows = range(start, min(start + GROUP, len(data)))
        images = [{"bytes": png(data, row), "path": data.name(row)} for row in rows]
        table = pa.table(
            {"image": images}
            | {name: column[rows.start : rows.stop] for name, column in whole.items()}
        )
        return table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}}), MARK: "a set"}
        )

    def save(file: Path) -> None:
        first = part(0)
        with parquet.ParquetWriter(file, first.schema) as writer:
            writer.write_table(first)
            for start in range(GROUP, len(data), GROUP):
                writer.write_table(part(start))

    return files.write(path, save)
