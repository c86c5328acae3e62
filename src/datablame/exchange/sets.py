"""Sets written as Parquet or as class folders. The user's own files are copied, never touched."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datablame.base import decode, files, progress, tables
from datablame.base.errors import InputError
from datablame.base.originals import Cells, Crops
from datablame.boxes.formats import changed
from datablame.dataset import Dataset
from datablame.run import plain

CHANGES = "changes.csv"
Table = dict[str, Any]
GROUP = 2048
"""Rows of a Parquet file written at a time."""


def dump(data: Dataset, path: Path, changes: Table | None = None) -> Path:
    """A set as Parquet, or as class folders where the path has no ending; `changes` beside it: a
    table of what was changed.

    Raises InputError for another ending.
    """
    originals = None if data.images is None else data.images.originals
    if isinstance(originals, Crops) and path.suffix != ".parquet":
        return _annotations(data, originals, path, changes)
    if path.suffix not in ("", ".parquet"):
        raise InputError(
            f"cannot write a set to '{path}': name a .parquet file, or a folder, without an ending"
        )
    if path.resolve() in _sources(data):
        raise InputError(f"{path} holds the images of this set: give the cleaned one another name")
    if not path.suffix:
        return to_folders(data, path, changes)
    beside = path.with_name(f"{path.stem}-{CHANGES}")
    if changes is not None:
        files.refuse_foreign(beside, data.closed)
    to_parquet(data, path)
    if changes is not None:
        tables.write_csv(beside, changes)
    return path


def _annotations(data: Dataset, crops: Crops, path: Path, changes: Table | None) -> Path:
    """The boxes of a set in the format that they were read from, the images where they are."""
    if path.suffix != crops.ending:
        raise InputError(
            f"cannot write these boxes to '{path}': name "
            + (f"a {crops.ending} file" if crops.ending else "a folder, without an ending")
            + ", or a .parquet file for the pictures in them"
        )
    files.refuse_foreign(path)
    dropped: list[str] = []
    if changes is not None:
        pairs = zip(changes["file"].to_pylist(), changes["to"].to_pylist(), strict=True)
        dropped = [name for name, to in pairs if not to]
    found = changed(data, crops, dropped)
    if not crops.ending:
        table = [] if changes is None else [(CHANGES, tables.spreadsheet(changes))]
        return files.write_folder(path, itertools.chain(found, table))
    beside = path.with_name(f"{path.stem}-{CHANGES}")
    if changes is not None:
        files.refuse_foreign(beside)
    files.write_bytes(path, next(content for _, content in found))
    if changes is not None:
        tables.write_csv(beside, changes)
    return path


def _sources(data: Dataset) -> set[Path]:
    """The Parquet files that a set's images lie in."""
    originals = None if data.images is None else data.images.originals
    paths = originals.paths if isinstance(originals, Cells) else ()
    return {Path(each).resolve() for each in paths}


def _originals(data: Dataset) -> Iterator[bytes | None]:
    """The user's own bytes of each image, in order; says at the end how many photographs are no
    longer to be had.
    """
    gone = 0
    for row in range(len(data)):
        own = original(data, row)
        gone += own is None
        yield own
    images = data.images
    if gone and images is not None and not images.noise and max(images.native) > decode.SMALL:
        progress.say(
            f"{gone:,} photographs are no longer where they were read, or have changed: they are "
            f"written as they were kept, in {max(images.array.shape[2:])} pixels"
        )


def png(data: Dataset, row: int) -> bytes:
    """One image. Raises InputError where there are none that can be drawn."""
    data.need_pictures("writing images")
    return decode.encoded(decode.picture(data.pixels.one(int(data.rows[row]))))


def original(data: Dataset, row: int) -> bytes | None:
    """The user's own bytes of an image; None where they are not there, no longer hold what was
    read, or where noise was put on the pixels.
    """
    if data.images is None or data.images.noise is not None:
        return None
    return data.images.content(int(data.rows[row]))


def _without_pictures(data: Dataset) -> dict[str, Any]:
    """The columns of a set of features, as `datablame audit` reads them, or of labels alone."""
    columns: dict[str, Any] = {"name": data.names}
    if data.images is not None:
        vectors = data.batch(torch.arange(len(data)))[0].flatten(1).cpu().numpy()
        wide = vectors.shape[1]
        columns["features"] = pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), wide)
    classes = np.array(data.classes, dtype=object)
    columns["label"] = pa.array(classes[data.labels.numpy()], pa.string())
    if data.truth is not None:
        right = np.array([*data.classes, None], dtype=object)[data.truth.numpy()]
        columns["truth"] = pa.array(right, pa.string())
    return columns | ({} if data.texts is None else {"text": data.texts})


def ending(content: bytes) -> str:
    """Of a file with such content: `.jpg`."""
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        kind = str(image.format).lower()
    found = {"jpeg": ".jpg", "mpo": ".jpg", "tiff": ".tif"}.get(kind, f".{kind}")
    return found if found in decode.endings() else ".png"


def to_folders(data: Dataset, path: Path, changes: Table | None = None) -> Path:
    """A set as a folder of images a class, by the labels that it has, and labels.csv: file, name,
    given, and truth where it is known.

    Images are the user's own bytes, files under their own names, where they still hold what was
    read; others are PNG. Classes without images are empty folders. Raises InputError where
    `files.refuse_foreign` does.
    """
    if not data.drawn:
        raise InputError(f"{data.source} has no images for a folder: write it as a .parquet file")
    files.refuse_foreign(path, data.closed)
    homes = class_folders(data.classes)
    labels = data.labels.tolist()
    names = [_as_file(name, data) for name in data.names.to_pylist()]
    depth = _depth(data, names)

    wanted = [
        str(Path(*above, homes[label], *below))
        for label, (above, below) in zip(
            labels, (_parts(name, depth) for name in names), strict=True
        )
    ]
    taken = {name for name, place in zip(names, wanted, strict=True) if name == place}

    def content() -> Iterator[tuple[str, bytes]]:
        yield from ((f"{home}/", b"") for k, home in enumerate(homes) if k not in set(labels))
        placed = []
        for row, own in enumerate(progress.track(_originals(data), len(data), "writing", "images")):
            place = wanted[row]
            if own is None or data.root is None:
                place = str(Path(place).with_suffix(ending(own) if own else ".png"))
            if place != names[row]:
                place = _free(place, taken)
            taken.add(place)
            placed.append(place)
            yield place, own or png(data, row)
        classes = np.array([*data.classes, ""])
        truth = {} if data.truth is None else {"truth": classes[data.truth]}
        table = {"file": placed, "name": data.names, "given": classes[data.labels]}
        yield "labels.csv", tables.spreadsheet(table | truth)
        if changes is not None:
            yield CHANGES, tables.spreadsheet(changes)

    return files.write_folder(path, content())


def unsplit(data: Dataset) -> Dataset:
    """A split that lies in a folder of its own, such as photos/test, as a set of that folder."""
    names = data.names.to_pylist()
    tops = {name.partition("/")[0] for name in names}
    if data.root is None or len(tops) > 1 or _depth(data, names) < 2:
        return data
    below = pa.array([name.partition("/")[2] for name in names])
    return dataclasses.replace(data, names=below, root=str(Path(data.root, *tops)))


def _as_file(name: str, data: Dataset) -> str:
    """A name as that of a file: of a box its image's, with its number."""
    image, _, number = name.rpartition("#")
    boxes = data.images is not None and isinstance(data.images.originals, Crops)
    return f"{image.rpartition('.')[0]}-{number}.png" if boxes else name


def _free(place: str, taken: set[str]) -> str:
    """A path that is not taken: the one that is wanted, or the first with a number after it."""
    path = Path(place)
    several = (str(path.with_stem(f"{path.stem}-{turn}")) for turn in itertools.count(2))
    return next(each for each in itertools.chain([place], several) if each not in taken)


def class_folders(classes: Sequence[str]) -> list[str]:
    """A folder's name for each class: its own where that can be one."""
    homes = [_safe(name) for name in classes]
    counts = Counter(home.lower() for home in homes)
    return [f"{home}-{k}" if counts[home.lower()] > 1 else home for k, home in enumerate(homes)]


def _safe(name: str) -> str:
    """A name as one part of a path: as it is, unless it would lead elsewhere or hide."""
    odd = any(ord(sign) < 32 or sign in "/\\" for sign in name)
    return plain(name) if odd or not name.strip(". ") or name[0] == "." else name


def _depth(data: Dataset, names: Sequence[str]) -> int:
    """How many folders of a name stand above the rest: the class's (1), or the split's too (2);
    0 where names are no paths of class folders.
    """
    if data.root is None:
        return 0
    classes = set(data.classes)
    return 1 if all(name.partition("/")[0] in classes for name in names) else 2


def _parts(name: str, depth: int) -> tuple[list[str], list[str]]:
    """The parts of a name above the class's folder, and those below it."""
    parts = [_safe(part) for part in name.split("/") if part]
    if depth == 0 or len(parts) <= depth:
        return [], parts[-1:] or ["image"]
    return parts[: depth - 1], parts[depth:]


def to_parquet(data: Dataset, path: Path) -> Path:
    """A set as one Parquet file in the hub's layout: image (the user's own bytes where they are
    there, else PNG), label and truth with their class names; without images names and labels.

    Raises InputError where `files.refuse_foreign` does.
    """
    files.refuse_foreign(path, data.closed)
    if not data.drawn:
        return tables.write(path, _without_pictures(data))
    return tables.write_several(path, tables_of(data))


def tables_of(
    data: Dataset,
    more: Mapping[str, np.ndarray] = MappingProxyType({}),
    classed: Sequence[str] = (),
) -> Iterator[pa.Table]:
    """A set in the hub's layout, GROUP rows at a time, with `more` columns, of which some hold
    class numbers.
    """
    kind = {"_type": "ClassLabel", "names": list(data.classes)}
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": kind}
    whole: dict[str, Any] = {"label": data.labels.numpy()}
    if data.truth is not None:
        features["truth"], whole["truth"] = kind, data.truth.numpy()
    for name, values in more.items():
        kinds = {"float": "float32", "double": "float64"}
        dtype = str(pa.array(values[:1]).type)
        plain = {"_type": "Value", "dtype": kinds.get(dtype, dtype)}
        features[name], whole[name] = kind if name in classed else plain, values
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    every = _originals(data)
    for rows in (range(k, min(k + GROUP, len(data))) for k in range(0, len(data), GROUP)):
        images = [
            {"bytes": own or png(data, row), "path": data.name(row)}
            for row, own in zip(rows, every, strict=False)
        ]
        columns = {name: column[rows.start : rows.stop] for name, column in whole.items()}
        yield pa.table({"image": images} | columns).replace_schema_metadata(about)
    next(every, None)  # says what it has to say
