"""Shards of a WebDataset: tar files in which an example is the files of one name, 000123.jpg and
000123.cls. github.com/webdataset/webdataset
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from datablame.base import archives, decode, progress, readers
from datablame.base.archives import DAMAGED, Shards
from datablame.base.errors import InputError
from datablame.data.annotators import labelled
from datablame.data.classes import words_of
from datablame.data.columns import LABELS, column, right_of, together, truth_of
from datablame.data.packing import packed
from datablame.dataset import Dataset
from datablame.methods.sources.archive import ENDINGS
from datablame.methods.sources.folder import SPLITS

TARS = tuple(each for each in ENDINGS if each != ".zip")
WORDS = ("classes.txt", "classnames.txt")
"""Files beside the shards that name the classes."""
LONGEST = 200
"""Bytes of a file that may still be a label."""
NO_LABEL, NO_IMAGE = "no label", "no image"


def webdataset(
    where: str,
    split: str = "train",
    image: str | None = None,
    label: str | Sequence[str] = (),
    truth: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """A tar file of examples, or a folder of them (`train-0000.tar`, ...): a label is the file
    `.cls` of an example, or a field of its `.json`.

    `image` names an ending (`jpg`), `label` and `truth` endings or fields. Class names are read
    from `classes.txt` beside the shards. Raises InputError for a shard that is damaged, and where
    no example has an image and a label.
    """
    path = Path(where)
    home, shards = (path.parent, [path]) if path.is_file() else (path, _shards(path))
    sides = [None if path.is_file() else _side(each.name) for each in shards]
    wanted = [each for each, side in zip(shards, sides, strict=True) if side in (split, None)]
    if not wanted or (split == "test" and not any(sides)):
        return None
    asked = [label] if isinstance(label, str) else list(label)
    fitting = set(asked or ("cls", *LABELS))
    held = Shards(home)
    rows, aside = [], []
    with progress.stage("read shards"):
        archives.unpack([home / shard.name for shard in wanted])
        for shard in progress.track(wanted, len(wanted), "reading", "shards"):
            for name, parts in _examples(held, shard.name):
                found = _example(held, name, parts, image)
                rows.append(found) if isinstance(found, dict) else aside.append((name, found))
            if limit and sum(not fitting.isdisjoint(row) for row in rows) >= limit:
                break
    fields = list(dict.fromkeys(name for row in rows for name in row if name != "image"))
    given = [column(fields, each, ("cls", *LABELS), "label", where) for each in asked or [None]]
    aside += [(row["image"], NO_LABEL) for row in rows if not any(row.get(g) for g in given)]
    rows = [row for row in rows if any(row.get(each) for each in given)][:limit]
    if not rows:
        raise InputError(f"no example of {where} has an image and a label (.cls, or .json)")
    truth = truth_of(fields, given, truth, where)
    names = next((home / name for name in WORDS if (home / name).is_file()), None)
    known = None if names is None else tuple(words_of(names))
    classes, votes = together([_cells(rows, each) for each in given], known, given)
    if known is not None and len(known) <= votes.max():
        raise InputError(f"{names} names {len(known)} classes, and labels go up to {votes.max()}")
    right = truth and right_of(_cells(rows, truth), known, truth, classes)
    places = [str(row["image"]) for row in rows]
    if aside:
        progress.say(f"{len(aside):,} examples without image or label: {aside[0][0]}")
    data = labelled(
        lambda labels: packed(
            decode.key("shards", places),
            dataclasses.replace(held, at=places),
            labels,
            classes,
            places,
            right,
            size,
            path.name.partition(".")[0],
            split,
        ),
        votes.T if len(given) > 1 else votes[0],
        given,
    )
    return dataclasses.replace(data, aside=(*data.aside, *aside))


def holds(path: Path) -> bool:
    """Whether a tar file, or the first of a folder, has files `.cls` beside images of their name,
    or `.json` where there are no class folders.
    """
    shards = [path] if path.is_file() and path.name.lower().endswith(TARS) else _shards(path)
    if not shards:
        return False
    try:
        with tarfile.open(shards[0], "r:*") as packed:
            names = [each.name for each, _ in zip(packed, range(20), strict=False) if each.isfile()]
    except (*DAMAGED, OSError):
        return False  # said by who reads it as an archive
    stems = {stem for stem, ending in map(_split, names) if f".{ending}" in decode.endings()}
    kinds = {ending: "/" in stem for stem, ending in map(_split, names) if stem in stems and ending}
    return "cls" in kinds or kinds.get("json") is False


def _shards(path: Path) -> list[Path]:
    """The tar files of a folder."""
    if not path.is_dir():
        return []
    return sorted(p for p in path.iterdir() if p.is_file() and p.name.lower().endswith(TARS))


def _side(name: str) -> str | None:
    """`train` or `test` by a shard's name; `val` serves as test. None where it says neither."""
    words = set(re.split(r"[^a-z]+", name.lower()))
    return next((side for side in ("train", "test") if words & set(SPLITS[side])), None)


def _split(name: str) -> tuple[str, str]:
    """(what an example's files have in common, the ending of this one): up to the first dot of the
    file's own name.
    """
    folder, slash, own = name.rpartition("/")
    stem, _, ending = own.partition(".")
    return f"{folder}{slash}{stem}", ending.lower()


def _examples(held: Shards, shard: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, its files by ending) of each example of a shard, in order."""
    together: dict[str, dict[str, str]] = {}
    for name in held.shard(shard).entries:
        stem, ending = _split(name)
        if stem.rpartition("/")[2]:  # hidden files have none
            together.setdefault(stem, {})[ending] = name
    for stem, parts in together.items():
        yield f"{shard}/{stem}", parts


def _example(
    held: Shards, name: str, parts: dict[str, str], asked: str | None
) -> dict[str, str] | str:
    """The place of an example's image, and by name all that might be its label; or what it
    lacks.
    """
    wanted = decode.endings() if asked is None else {f".{asked.lstrip('.').lower()}"}
    image = next((place for ending, place in parts.items() if f".{ending}" in wanted), None)
    if image is None:
        return NO_IMAGE
    shard, found = name.partition("/")[0], {}
    for ending, place in parts.items():
        if f".{ending}" in decode.endings():
            continue
        content = held.shard(shard).content(place)
        if ending == "json":
            with contextlib.suppress(readers.Damaged):
                about = readers.parse_json(content, f"{shard}/{place}", {})
                plain = {k: str(v) for k, v in about.items() if isinstance(v, (str, int))}
                found |= {k: v for k, v in plain.items() if _text(k) and _text(v)}
        elif len(content) < LONGEST:
            found[ending] = content.decode(errors="replace").strip()
    return found | {"image": f"{shard}/{image}"} if found else NO_LABEL


def _text(value: str) -> bool:
    return len(value) < LONGEST and value.encode(errors="replace").decode() == value


def _cells(rows: list[dict[str, str]], name: str) -> pa.ChunkedArray:
    """A field of all examples: whole numbers where all are, else words; empty ones are missing."""
    values = [row.get(name) or None for row in rows]
    if all(value is None or re.fullmatch("-?[0-9]{1,9}", value) for value in values):
        whole = [None if value is None else int(value) for value in values]
        return pa.chunked_array([pa.array(whole, pa.int64())])
    return pa.chunked_array([pa.array(values, pa.string())])
