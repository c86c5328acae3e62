"""Hugging Face image-classification sets: by name, as `save_to_disk` writes them, or Parquet files
of the same layout. huggingface.co/docs/datasets
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
from pyarrow import dataset, parquet

from datablame.base import decode, environment, files, processes, progress, readers, tables
from datablame.base.errors import InputError, RunError
from datablame.base.hashing import marks
from datablame.base.originals import Cells, Files, Held, batches
from datablame.data.annotators import labelled
from datablame.data.columns import (
    column,
    feature_types,
    labels_of,
    read,
    right_of,
    together,
    truth_of,
)
from datablame.data.packing import packed
from datablame.dataset import Dataset
from datablame.methods.sources.folder import SPLITS

STATE, SETS = "state.json", "dataset_dict.json"
"""What `save_to_disk` writes beside the Arrow files of a split, and beside the splits."""
BATCH = 1000
"""Rows of a stream written at a time."""


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
    """Rows of a Hugging Face set (`hub:uoft-cs/cifar10`), of a folder of `save_to_disk`, of Arrow
    or of Parquet files (`train.parquet`), its columns selectable.

    `image`, `label`, `truth` and `group` name columns; without them the image column and the class
    label are recognised. Several names of labels are those of as many annotators, who may have left
    gaps. A split without these columns (human noise is recorded for training rows only) is read
    with the truth as its label. `limit` keeps the first rows, and has no more fetched. Raises
    InputError for a missing path or column.
    """
    path, more = Path(where), (where, split, image, label, truth, group, limit, size)
    if path.exists():
        return _of_files(_local(path, split), path.stem if path.is_file() else path.name, *more)
    if limit is not None and (_kept(where, split, limit).is_file() or not environment.offline()):
        first = _first(where, split, limit)
        return _of_files([] if first is None else [first], _name(where)[0], *more)
    rows = _remote(where, split)
    return None if rows is None else of_library(rows, _name(where)[0], *more, under=_kept_by_hub())


def of_library(rows: Any, title: str, *more: Any, under: Sequence[str] = ("/",)) -> Dataset:
    """A Hugging Face Dataset, as `of_rows` reads it. Its images may be paths `under` these folders:
    the library's own, or those of who made it.
    """
    table = dataset.dataset(rows.with_format("arrow")[:])
    paths = _files_of(rows, table.schema)
    return of_rows(table, title, rows._fingerprint, *more, paths=paths, under=under)


def _files_of(rows: Any, schema: pa.Schema) -> tuple[str, ...]:
    """The Arrow files that hold these rows and no others, in order; nothing where there are none
    such: the library keeps a part, or other columns, as the files and what to do with them.
    """
    from datasets.table import ConcatenationTable, MemoryMappedTable

    data: Any = rows._data
    several = isinstance(data, ConcatenationTable) and all(len(row) == 1 for row in data.blocks)
    blocks: list[Any] = [row[0] for row in data.blocks] if several else [data]
    if rows._indices is not None or not all(isinstance(b, MemoryMappedTable) for b in blocks):
        return ()
    if any(name != "replace_schema_metadata" for b in blocks for name, *_ in b.replays or ()):
        return ()
    parts = [batch for block in blocks for batch in batches(block.path)]
    same = all(batch.schema.equals(schema, check_metadata=False) for batch in parts)
    whole = len(rows) == sum(batch.num_rows for batch in parts)
    return tuple(block.path for block in blocks) if same and whole else ()


def _of_files(found: list[Path], title: str, where: str, *more: Any) -> Dataset | None:
    if not found:
        return None
    paths = tuple(map(os.path.abspath, found))
    return of_rows(_rows(found, where), title, "", where, *more, paths=paths)


def of_rows(
    rows: Any,
    title: str,
    stamp: str,
    where: str = "this dataset",
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    group: str | None = None,
    limit: int | None = None,
    size: int | None = None,
    paths: tuple[str, ...] = (),
    under: Sequence[str] = (),
) -> Dataset:
    """Rows of a pyarrow dataset, as `hub` reads them; `stamp` changes when they do, unless files at
    `paths` are those that change. Of these the images are read when they are needed; where the
    cells are paths themselves, those `under` some folders are read.
    """
    if not read(where, rows.count_rows):
        raise InputError(f"{where} has no rows")
    features, there = feature_types(rows.schema), rows.schema.names
    pictures = [name for name, kind in features.items() if kind == "Image"]
    image = column(there, image, [*pictures, "image", "img"], "image", where)
    if features.get(image) != "Image":
        raise InputError(
            f"column {image} of {where} holds {rows.schema.field(image).type}, not the "
            "bytes of images"
        )
    given = labels_of(features, there, label, truth, where)
    truth = truth_of(there, given, truth, where)
    if group is not None:
        column(there, group, (), "group", where)
    columns = [*given, *filter(None, (truth, group)), *([] if paths and not under else [image])]
    wanted = list(dict.fromkeys(columns))
    take = (lambda **only: rows.head(limit, **only)) if limit else rows.to_table
    table = read(where, lambda: take(columns=wanted))
    kind = features.get(given[0])
    classes, votes = together([table[name] for name in given], kind, given)
    right = truth and right_of(table[truth], features.get(truth) or kind, truth, classes)
    home, originals = None, Cells(paths, image) if paths else _held(table[image])
    names = [f"{split}/{row:06d}" for row in range(len(table))]
    if under and (places := _places(table[image], under)):
        home = os.path.commonpath([os.path.dirname(place) for place in places])
        names = [os.path.relpath(place, home) for place in places]
        originals = Files([Path(place) for place in places])
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
    groups = None if group is None else marks(table[group].to_pylist())[data.rows]
    return dataclasses.replace(data, root=home, listed=home is not None, groups=groups)


def _held(cells: pa.ChunkedArray) -> Held:
    """Images that are in memory."""
    encoded = pa.types.is_struct(cells.type)
    cells = tables.compute().struct_field(cells, "bytes") if encoded else cells
    return Held(lambda row: cells[row].as_py() or b"")


def _kept_by_hub() -> tuple[str, ...]:
    """The folders in which Hugging Face's libraries keep what they fetch."""
    from datasets import config
    from huggingface_hub import constants

    return str(config.HF_DATASETS_CACHE), str(config.HF_CACHE_HOME), str(constants.HF_HUB_CACHE)


def _places(cells: pa.ChunkedArray, under: Sequence[str]) -> list[str]:
    """The paths that stand for the images, where all do and differ; none else. Raises InputError
    for one outside of these folders.
    """
    compute = tables.compute()
    if not pa.types.is_struct(cells.type) or cells.type.get_field_index("path") < 0:
        return []
    if compute.struct_field(cells, "bytes").null_count < len(cells):
        return []
    paths = compute.struct_field(cells, "path").to_pylist()
    homes = tuple(os.path.join(os.path.realpath(home), "") for home in under)
    if lost := [path for path in paths if path and not os.path.realpath(path).startswith(homes)]:
        raise InputError(f"the images of this set are files that are not its own: {lost[0]}")
    return paths if all(paths) and len(set(paths)) == len(paths) else []


def holds(path: Path) -> bool:
    """Whether it is what `save_to_disk` writes, or an Arrow file."""
    if (path / SETS).is_file():
        return True
    if (path / STATE).is_file():
        return any(path.glob("*.arrow")) or "_data_files" in readers.read_text(path / STATE)
    return path.suffix == ".arrow" and path.is_file()


def _rows(paths: Sequence[Path], where: str) -> Any:
    """The rows of Parquet files, or of Arrow files, which are mapped."""
    names = list(map(str, paths))
    for name in names:
        if not Path(name).is_file():
            raise InputError(f"{name} is not a file")
    if paths[0].suffix == ".arrow":
        parts = read(where, lambda: [pa.Table.from_batches(batches(name)) for name in names])
        return read(where, lambda: dataset.dataset(pa.concat_tables(parts)))
    for name in names:
        read(name, lambda name=name: parquet.read_schema(name))
    return read(where, lambda: dataset.dataset(names, format="parquet"))


def _local(path: Path, split: str) -> list[Path]:
    """The files of a split: of a folder those that are called by it (`train-00000.parquet`,
    `train/0000.parquet`), or all for training where none is; nothing without it.
    """
    if path.is_file():
        return [path] if split == "train" else []
    if (path / SETS).is_file() and not (path / STATE).is_file():
        homes = {name: path / name for name in SPLITS[split] if (path / name / STATE).is_file()}
        return _local(next(iter(homes.values())), "train") if homes else []
    if (path / STATE).is_file():
        state = readers.read_json(path / STATE, _data_files=list)
        known = [each for each in state["_data_files"] if isinstance(each, dict)]
        names = [str(each.get("filename")) for each in known]
        if not names:
            raise InputError(f"{path / STATE} names no files of the set")
        if strange := [name for name in names if PurePath(name).name != name]:
            raise InputError(f"{path / STATE} names {strange[0]}, which is no file beside it")
        return [path / name for name in names] if split == "train" else []
    found = sorted(path.rglob("*.parquet"))
    for name in SPLITS[split]:
        named = [p for p in found if any(part.startswith(name) for part in _parts(p, path))]
        if named:
            return named
    words = tuple(word for each in SPLITS.values() for word in each)
    plain = [p for p in found if not any(part.startswith(words) for part in _parts(p, path))]
    return plain if split == "train" and len(plain) == len(found) else []


def _parts(path: Path, top: Path) -> list[str]:
    return [part.lower() for part in path.relative_to(top).parts]


def _name(where: str) -> tuple[str, str | None]:
    """(name, configuration) of a set of the hub."""
    name, _, configuration = where.removeprefix("hub:").partition(":")
    return name, configuration or None


def _first(where: str, split: str, limit: int) -> Path | None:
    """The first rows of a set of the hub, which are fetched alone, in the cache; None where it has
    no such split.
    """
    kept = _kept(where, split, limit)
    if kept.is_file():
        return kept
    rows = _remote(where, split, stream=True)
    return None if rows is None else _had(where, lambda: spooled(rows, kept, limit, where))


def _kept(where: str, split: str, limit: int) -> Path:
    return environment.cache() / "streams" / f"{decode.key(where, split, limit)}.parquet"


def spooled(
    stream: Any, path: Path | None = None, limit: int | None = None, where: str = ""
) -> Path:
    """A streaming Dataset as Parquet at a path, or by its content in the cache: no more than BATCH
    rows of it are in memory.
    """
    from datasets.table import embed_table_storage

    name = processes.agree(f".{os.getpid()}.parquet")
    part = path or environment.cache() / "streams" / name
    rows = stream if limit is None else stream.take(limit)
    raw = rows.with_format("arrow").iter(BATCH)
    whole = (embed_table_storage(_own(each, where) if where else each) for each in raw)
    counted = progress.track(whole, 0, "reading", f"batches of {BATCH:,} rows")
    tables.write_several(part, counted)
    if path is not None:
        return path
    mark = processes.agree(files.digest_of(part) if processes.rank() == 0 else "")
    return files.renamed(part, part.with_name(f"{mark}.parquet"))


def _own(table: pa.Table, where: str) -> pa.Table:
    """Rows of a set of the hub. Raises InputError where an image in them is a path to anything but
    a file of the set: it would be read, or fetched, without a word.
    """
    home = f"hf://datasets/{_name(where)[0]}"
    for cells in table.columns:
        if not pa.types.is_struct(cells.type) or cells.type.get_field_index("path") < 0:
            continue
        empty = tables.compute().is_null(tables.compute().struct_field(cells, "bytes"))
        for path in tables.compute().struct_field(cells, "path").filter(empty).to_pylist():
            if path and not path.rpartition("::")[2].startswith((f"{home}/", f"{home}@")):
                raise InputError(
                    f"'{where}' names an image that is no file of its own: {path[:120]}"
                )
    return table


def _remote(where: str, split: str, stream: bool = False) -> Any:
    """A split of a set of the hub (`hub:name` or `hub:name:configuration`), downloaded and kept by
    Hugging Face `datasets`, or a stream of it; with HF_HUB_OFFLINE only what it keeps. None where
    there is no such split.
    """
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"'{where}' is a set of the hub, which is fetched by: pip install 'datablame[hub]'"
        ) from None
    if environment.offline():  # the libraries read the variable once, when they are first imported
        from datasets import config
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = config.HF_HUB_OFFLINE = True

    def found() -> Any:
        there = datasets.get_dataset_split_names(*_name(where))
        name = next((name for name in SPLITS[split] if name in there), None)
        title, configuration = _name(where)
        return name and datasets.load_dataset(title, configuration, split=name, streaming=stream)

    return _had(where, found)


def _had(where: str, get: Callable[[], Any]) -> Any:
    """What is fetched of a set of the hub. Raises InputError where it cannot be had."""
    try:
        return get()
    except (InputError, RunError):
        raise
    except Exception as error:  # the library raises many kinds, all of which mean: not to be had
        why = f"{type(error).__name__}: {str(error)[:120]}"
        if environment.offline():
            why = "it was not fetched before, and --offline (HF_HUB_OFFLINE) forbids the network"
        raise InputError(f"'{where}' cannot be had from the Hugging Face hub: {why}") from None
