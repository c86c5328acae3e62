"""A table of paths of images and labels: CSV, TSV, JSON lines, or Parquet that has no pictures in
it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv, dataset, parquet

from datablame.base import decode, remote, tables
from datablame.base.errors import InputError
from datablame.base.hashing import marks
from datablame.base.originals import Files, Under
from datablame.data.annotators import labelled
from datablame.data.columns import column, labels_of, read, right_of, together, truth_of
from datablame.data.packing import packed
from datablame.dataset import Dataset
from datablame.methods.sources.folder import SPLITS

FORMATS = {".csv": "csv", ".tsv": "csv", ".jsonl": "json", ".ndjson": "json", ".parquet": "parquet"}
PATHS = (
    "image",
    "path",
    "file",
    "file_name",
    "filename",
    "filepath",
    "image_path",
    "img",
    "images",
)
"""What a column of paths may be called."""
CROOKED = r"^$|^/|/$|//|(^|/)\.{1,2}(/|$)|\\|^.:|\x00"
"""What is in a path that may lead elsewhere than it seems to."""


def table(
    where: str,
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    group: str | None = None,
    root: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """Rows of a table (`labels.csv`) that names images by their paths, which start at the table's
    folder, or at `root`.

    `image`, `label`, `truth` and `group` name columns. A column `split` tells training from test
    rows. Paths and `root` may be addresses (s3://, gs://, hf://, https://), which are fetched once.
    Raises InputError for a missing column, a path that leads out of the folder or to nothing,
    and an image that stands twice.
    """
    path = Path(where)
    rows = read(where, lambda: _rows(path).to_table())
    if not len(rows):
        raise InputError(f"{where} has no rows")
    if len(set(rows.column_names)) < len(rows.column_names):
        raise InputError(f"{where} names a column twice: {', '.join(rows.column_names)}")
    if group is not None:
        column(rows.column_names, group, (), "group", where)
    number = np.arange(len(rows))
    if (sides := _sides(rows, where)) is not None:
        number = number[sides == split]
    if not len(number) or (sides is None and split != "train"):
        return None
    number = number[:limit]
    some = rows.take(pa.array(number))
    there = _paths(some, image, where)
    given = labels_of(
        {}, [name for name in rows.column_names if name != there], label, truth, where
    )
    classes, votes = together([rows[name] for name in given], None, given)
    votes = votes[:, number]
    truth = truth_of(rows.column_names, given, truth, where)
    right = truth and right_of(some[truth], None, truth, classes)
    cells = some[there].combine_chunks().cast(pa.string())
    home = Path(root) if root is not None else path.parent
    addresses = tables.compute().match_substring(cells, "://")
    if remote.known(root) or tables.compute().any(addresses).as_py():
        home, here = remote.images(root if remote.known(root) else None, cells.to_pylist())
        cells = pa.array(here, pa.string())
    names, places = _placed(cells, number, home, where)
    data = labelled(
        lambda labels: packed(
            "", Files(places), labels, classes, names, right, size, path.stem, split
        ),
        votes.T if len(given) > 1 else votes[0],
        given,
    )
    groups = None if group is None else marks(some[group].to_pylist())[data.rows]
    return dataclasses.replace(data, root=str(home.resolve()), listed=True, groups=groups)


def holds(path: Path) -> bool:
    """Whether a file is a table of paths: by its ending, and of Parquet by its columns."""
    if path.suffix != ".parquet":
        return path.suffix in FORMATS and path.is_file()
    try:
        schema = parquet.read_schema(path)
    except (pa.ArrowException, OSError, ValueError):
        return False  # said by who reads it as images
    texts = {field.name for field in schema if _text(field.type)}
    return bool(texts & set(PATHS)) and not any(
        pa.types.is_binary(field.type) or pa.types.is_struct(field.type) for field in schema
    )


def _text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _rows(path: Path) -> Any:
    """A table as a pyarrow dataset; of CSV, by the sign between its columns."""
    how: Any = FORMATS[path.suffix]
    if how == "csv":
        with path.open("rb") as file:
            head = file.readline(1 << 16)
        sign = (
            "\t"
            if path.suffix == ".tsv"
            else max(",;\t", key=lambda each: head.count(each.encode()))
        )
        how = dataset.CsvFileFormat(
            csv.ParseOptions(delimiter=sign, newlines_in_values=True),
            convert_options=csv.ConvertOptions(strings_can_be_null=True),
        )
    return dataset.dataset(str(path), format=how)


def _sides(rows: pa.Table, where: str) -> np.ndarray | None:
    """`train` or `test` of each row, by a column `split`; None without one. Validation rows are the
    test rows where there are no others, and else are left out."""
    if "split" not in rows.column_names:
        return None
    compute = tables.compute()
    words = compute.utf8_lower(rows["split"].cast(pa.string())).combine_chunks()
    known = {name for names in SPLITS.values() for name in names}
    for word in words.unique().to_pylist():
        if word not in known:
            row = words.to_pylist().index(word)
            raise InputError(
                f"row {row + 1} of {where} is of the split '{word}'; a column split holds train, "
                "test or validation"
            )
    asked = {"train": SPLITS["train"], "test": ("test", "testing")}
    if not set(words.unique().to_pylist()) & set(asked["test"]):
        asked["test"] = SPLITS["val"]
    sides = {word: next((s for s, each in asked.items() if word in each), "") for word in known}
    found = words.dictionary_encode()
    names = np.array([sides[word] for word in found.dictionary.to_pylist()])
    return names[found.indices.to_numpy(zero_copy_only=False)]


def _paths(rows: pa.Table, image: str | None, where: str) -> str:
    """The column of paths. Raises InputError where it holds anything else."""
    texts = [field.name for field in rows.schema if _text(field.type)]
    pictures = [name for name in PATHS if name in texts]
    pictures += [name for name in texts if _ending(rows[name][0].as_py()) in decode.endings()]
    found = column(rows.column_names, image, pictures, "image", where)
    if found not in texts:
        raise InputError(
            f"column {found} of {where} holds {rows.schema.field(found).type}, not paths of images"
        )
    return found


def _ending(value: str | None) -> str:
    return PurePosixPath(value or "").suffix.lower()


def _placed(cells: pa.Array, number: np.ndarray, home: Path, where: str) -> tuple[pa.Array, Under]:
    """(names, places) of paths that lie in a folder. Raises InputError for one that does not, that
    is not there, or that stands twice.
    """
    whole = home.resolve()
    if not whole.is_dir():
        raise InputError(f"there is no folder {home}, from which the paths of {where} start")
    names = cells if _straight(cells, f"{whole}/") else _named(cells, number, whole, home, where)
    if names.null_count or len(names.unique()) < len(names):
        _once(cells.to_pylist(), names.to_pylist(), number, where)
    places = Under(str(whole), names)
    some = np.unique(np.linspace(0, len(places) - 1, 1000).astype(int))
    if not any(places[k].is_file() for k in some):
        raise InputError(
            f"none of the images of {where} is there: row {int(number[0]) + 1} names "
            f"{cells[0].as_py()}, which would be {places[0]}; the paths start at {home}, or at "
            "--root FOLDER"
        )
    return names, places


def _straight(cells: pa.Array, top: str) -> bool:
    """Whether all paths lead where they seem to: down from the folder, through no link."""
    compute = tables.compute()
    if cells.null_count or compute.any(compute.match_substring_regex(cells, CROOKED)).as_py():
        return False
    above = compute.replace_substring_regex(cells, "/?[^/]*$", "").unique().to_pylist()
    homes = [f"{top}{folder}".rstrip("/") for folder in above]
    return all(os.path.realpath(each) == each and not _links(each) for each in homes)


def _named(cells: pa.Array, number: np.ndarray, whole: Path, home: Path, where: str) -> pa.Array:
    """Where paths lead, from the folder, links followed. Raises InputError for one that leads out
    of it.
    """
    homes: dict[str, tuple[str, set[str]]] = {}  # a folder is looked up once
    names, top = [], f"{whole}/"
    for row, given in zip(number.tolist(), cells.to_pylist(), strict=True):
        if not given:
            raise InputError(f"row {row + 1} of {where} names no image")
        odd = "\0" in given or given[1:2] == ":" or given[:2] == "\\\\"
        place = str(whole) if odd else _resolved(top, given, homes)
        if not place.startswith(top):
            raise InputError(
                f"row {row + 1} of {where} names {given!r}, which is not in {home}; name the "
                "folder in which all images lie: --root FOLDER"
            )
        names.append(place[len(top) :])
    return pa.array(names)


def _once(cells: list[Any], names: list[str], number: np.ndarray, where: str) -> None:
    """Raises InputError, since an image stands twice."""
    seen: dict[str, int] = {}
    for row, given, name in zip(number.tolist(), cells, names, strict=True):
        if (first := seen.setdefault(name, row)) != row:
            raise InputError(
                f"row {row + 1} of {where} names {given}, as row {first + 1} does; keep one row an "
                "image (labels of several annotators are columns: --label a b)"
            )


def _resolved(top: str, given: str, homes: dict[str, tuple[str, set[str]]]) -> str:
    """Where a path leads, links followed; `homes` are the folders that were looked up before, with
    the links in them.
    """
    above, name = os.path.split(os.path.join(top, given))
    if above not in homes:
        homes[above] = os.path.realpath(above), _links(above)
    home, links = homes[above]
    place = os.path.join(home, name)
    return os.path.realpath(place) if name in ("", ".", "..") or name in links else place


def _links(folder: str) -> set[str]:
    """The names in a folder that are links; none where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return {each.name for each in entries if each.is_symlink()}
    except OSError:
        return set()
