"""The user's own encoded images, where they lie: read one by one, in any order, by many threads."""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from datablame.base import decode, tables
from datablame.base.archives import Members, Shards, rows_of
from datablame.base.errors import InputError

Place = tuple[float, float, float, float, float, float]
"""A box: left, top, width, height, and width and height of the image that these are measured on."""
OUTSIDE = "(a link or a name that leads out of its folder)"
"""The name of no file."""


@runtime_checkable
class Originals(Protocol):
    """`read(row)` gives the bytes of an image, by its row in the packed array; OSError where it is
    gone. `to_json` is what a run's folder keeps of them, None where they are in memory alone;
    `also` adds those of another part of the same set, and `watched` are the paths of the files that
    are read.
    """

    def read(self, row: int) -> bytes: ...
    def to_json(self) -> dict[str, Any] | None: ...
    def also(self, other: Originals | None) -> Originals: ...
    def watched(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Held:
    """Images that only this process can read."""

    cell: Callable[[int], bytes]

    def read(self, row: int) -> bytes:
        return self.cell(row)

    def to_json(self) -> None:
        return None

    def also(self, other: Originals | None) -> Originals:
        return self

    def watched(self) -> Sequence[str]:
        return []


class Under(Sequence[Path]):
    """Paths in a folder, made when they are asked for: a million of them is a lot of objects."""

    def __init__(self, root: str, names: pa.Array):
        self.root, self.names = root, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: Any) -> Any:
        return Path(self.root, self.names[int(row)].as_py())


class Texts(Sequence[str]):
    """The same as text."""

    def __init__(self, paths: Under):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: Any) -> Any:
        if not isinstance(row, slice):
            return str(self.paths[row])
        names = self.paths.names[row].to_pylist()
        return [f"{self.paths.root}/{name}" for name in names]


@dataclass(frozen=True)
class Files:
    """A file each: the names of the set, under its root."""

    paths: Sequence[Path] | Mapping[int, Path]

    def read(self, row: int) -> bytes:
        try:
            return decode.content(self.paths[row])
        except KeyError:
            raise OSError(f"no file is known of row {row}") from None

    def also(self, other: Originals | None) -> Originals:
        if not isinstance(other, Files) or not isinstance(self.paths, dict):
            return self  # all of them are there
        return Files({**dict(other.paths), **self.paths}) if isinstance(other.paths, dict) else self

    def to_json(self) -> dict[str, Any]:
        return {"kind": "files"}

    def watched(self) -> Sequence[str]:
        if isinstance(self.paths, Under):
            return Texts(self.paths)
        return [str(path) for _, path in rows_of(self.paths)]

    @classmethod
    def under(cls, root: Path, names: Mapping[int, str]) -> Files:
        """Those of a run's folder, which may be a stranger's: names that lead out of the root,
        links resolved, are those of no file.
        """
        whole = root.resolve()
        paths = {row: (whole / name).resolve() for row, name in names.items()}
        nowhere = whole / OUTSIDE
        return cls({row: p if p.is_relative_to(whole) else nowhere for row, p in paths.items()})


@dataclass(frozen=True)
class Crops(Files):
    """A part of a file each, about a box. `where`, `split` and `images` say by what annotations it
    was drawn, and `ending` where these are written to; `root` is the folder of the files.
    """

    names: Sequence[str] | Mapping[int, str]
    places: Sequence[Place] | Mapping[int, Place]
    root: str
    where: str
    split: str
    ending: str
    images: str | None = None

    def watched(self) -> Sequence[str]:
        return sorted({str(path) for _, path in rows_of(self.paths)})

    def read(self, row: int) -> bytes:
        """A PNG. Raises OSError where there is no picture."""
        try:
            path, place = self.paths[row], self.places[row]
            about = path.stat()
        except KeyError:
            raise OSError(f"no box is known of row {row}") from None
        with _LOCKS[hash(path) % len(_LOCKS)]:  # the boxes of an image come one after the other
            whole = _picture(path, about.st_mtime_ns, (int(place[4]), int(place[5])))
        return decode.cut(whole, place)

    def also(self, other: Originals | None) -> Originals:
        if not isinstance(other, Crops) or not isinstance(self.paths, dict):
            return self  # all of them are there
        parts = ("paths", "names", "places")
        both = {
            part: {**dict(rows_of(getattr(other, part))), **dict(rows_of(getattr(self, part)))}
            for part in parts
        }
        return replace(self, **both)

    def to_json(self) -> dict[str, Any]:
        names = ("root", "where", "split", "ending", "images")
        return {"kind": "boxes"} | {name: getattr(self, name) for name in names}

    @functools.cached_property
    def known(self) -> dict[str, Place]:
        """Where each box lies, by name."""
        places = dict(rows_of(self.places))
        return {name: places[row] for row, name in rows_of(self.names)}


_LOCKS = [threading.Lock() for _ in range(16)]


@functools.lru_cache(maxsize=4)
def _picture(path: Path, changed: int, frame: tuple[int, int]) -> Any:
    """The picture of a file that was last changed then, as the boxes of such a frame lie on it."""
    return decode.whole(decode.content(path), frame)


@dataclass(frozen=True)
class Cells:
    """The cells of a column of Parquet or Arrow files, one file after the other; row groups are
    read as they are needed, and a few of them kept.
    """

    paths: tuple[str, ...]
    column: str
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @functools.cached_property
    def groups(self) -> tuple[list[tuple[int, int]], np.ndarray]:
        """(file, row group) of each group, and the row at which it ends."""
        from pyarrow import parquet

        found, sizes = [], []
        for number, path in enumerate(self.paths):
            if not Path(path).is_file():
                raise OSError(f"there is no file {path}")
            if path.endswith(".arrow"):
                rows = [batch.num_rows for batch in batches(path)]
            else:
                about = parquet.ParquetFile(path).metadata
                rows = [about.row_group(g).num_rows for g in range(about.num_row_groups)]
            found += [(number, group) for group in range(len(rows))]
            sizes += rows
        return found, np.array(list(itertools.accumulate(sizes)))

    def read(self, row: int) -> bytes:
        """Raises InputError where the file is damaged."""
        return self.many(range(row, row + 1))[0]

    def many(self, rows: range) -> list[bytes]:
        """Those of several rows, one after the other, at once."""

        found: list[bytes] = []
        with self.lock:
            try:
                groups, ends = self.groups
                while len(found) < len(rows):
                    row = rows.start + len(found)
                    at = int(np.searchsorted(ends, row, side="right"))
                    if at == len(groups):
                        raise OSError(f"it ends before row {row}")
                    path, first = self.paths[groups[at][0]], int(ends[at - 1]) if at else 0
                    cells = _group(path, groups[at][1], self.column, os.stat(path).st_mtime_ns)
                    some = cells.slice(row - first, rows.stop - row).to_pylist()
                    found += [each or b"" for each in some]
            except (pa.ArrowException, OSError, KeyError, ValueError) as error:
                why = str(error).partition("\n")[0]
                raise InputError(f"{', '.join(self.paths)} cannot be read: {why}") from None
        return found

    def to_json(self) -> dict[str, Any]:
        return {"kind": "cells", "paths": list(self.paths), "column": self.column}

    def watched(self) -> Sequence[str]:
        return self.paths

    def also(self, other: Originals | None) -> Originals:
        return self


@functools.lru_cache(maxsize=16)
def _mapped(path: str, changed: int) -> list[Any]:
    """The record batches of an Arrow file that was last changed then, mapped from the disk."""

    file = pa.memory_map(path)
    try:
        return list(pa.ipc.open_stream(file))  # as Hugging Face `datasets` writes them
    except pa.ArrowInvalid:
        whole = pa.ipc.open_file(file)
        return [whole.get_batch(number) for number in range(whole.num_record_batches)]


def batches(path: str) -> list[Any]:
    """The record batches of an Arrow file."""
    return _mapped(path, os.stat(path).st_mtime_ns)


@functools.lru_cache(maxsize=4)
def _group(path: str, group: int, column: str, changed: int) -> Any:
    """The cells of a row group of a file that was last changed then."""
    from pyarrow import parquet

    if path.endswith(".arrow"):
        cells = _mapped(path, changed)[group][column]
    else:
        cells = parquet.ParquetFile(path).read_row_group(group, [column])[column]
    return (
        tables.compute().struct_field(cells, "bytes") if pa.types.is_struct(cells.type) else cells
    )


def restored(kept: dict[str, Any], root: str | None, column: dict[str, Any]) -> Originals | None:
    """Those of a kept set, by what their `to_json` said and by the set's columns `row`, `name` and
    `box`. Raises KeyError, TypeError or ValueError where these are damaged.
    """
    if kept.get("kind") in ("members", "shards"):
        known = zip(column["row"].to_pylist(), column["name"].to_pylist(), strict=True)
        kind = Members if kept["kind"] == "members" else Shards
        return kind(Path(str(kept["path"])), dict(known))
    if kept.get("kind") == "cells":
        return Cells(tuple(map(str, kept["paths"])), str(kept["column"]))
    home = kept.get("root") or root
    if kept.get("kind") not in ("files", "boxes") or not home:
        return None
    rows, names = (column[name].to_pylist() for name in ("row", "name"))
    known = dict(zip(rows, names, strict=True))
    if kept["kind"] == "files":
        return Files.under(Path(home), known)
    places = dict(zip(rows, map(tuple, column["box"].to_pylist()), strict=True))
    if not all(len(place) == 6 and min(place[4:]) > 0 for place in places.values()):
        raise ValueError("a box of it has no place")
    images = {row: name.rpartition("#")[0] for row, name in known.items()}
    number = {image: k for k, image in enumerate(sorted(set(images.values())))}
    homes = Files.under(Path(home), {k: image for image, k in number.items()}).paths
    paths = {row: homes[number[image]] for row, image in images.items()}
    told = {name: str(kept[name]) for name in ("where", "split", "ending")}
    return Crops(paths, known, places, home, **told, images=kept.get("images"))
