"""Sheets of images to answer about: what is asked of a person, and what was said."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from datablame.analyses.certificate import AGAIN, RIGHT, UNSURE, WRONG, Answer, Drawing
from datablame.base import files, readers, tables
from datablame.base.errors import InputError, unknown
from datablame.dataset import Dataset
from datablame.exchange.sets import class_folders, png

SHEET = "sheet.csv"
"""In a folder of pictures: what they are."""
COLUMNS = ("number", "name", "given", "proposed", "answer", "by")


def asked(rows: np.ndarray) -> list[int]:
    """The images in the order of the sheet: some are asked about a second time, later."""
    order: list[int] = []
    for place, row in enumerate(rows.tolist()):
        order.append(row)
        if place >= AGAIN and place % AGAIN == 0:
            order.append(int(rows[place - AGAIN]))
    return order


def refuse(path: Path, data: Dataset) -> None:
    """Raises InputError for a path that no sheet of this set can be written to."""
    if path.suffix not in ("", ".csv", ".parquet"):
        raise InputError(
            f"cannot write a sheet to '{path}': name a .csv or a .parquet file, or a folder, "
            "without an ending"
        )
    files.refuse_foreign(path, data.closed)


def sheet(drawing: Drawing, data: Dataset, count: int, path: Path) -> Path:
    """The images that are to be looked at, as CSV, or as Parquet with their pictures, whose column
    `answer` the answers go into; without an ending, as a folder of pictures and one of each answer,
    into which they are moved.
    """
    rows = asked(drawing.images(count))
    names = np.array([*data.classes, ""], dtype=object)
    columns: dict[str, Any] = {
        "number": pa.array(range(1, len(rows) + 1)),
        "name": data.names.take(pa.array(rows)),
        "given": pa.array(names[drawing.labels[rows]], pa.string()),
        "proposed": pa.array(names[drawing.proposed[rows]], pa.string()),
        "answer": pa.array([""] * len(rows)),
        "by": pa.array([""] * len(rows)),
    }
    if data.texts is not None:
        columns["text"] = data.texts.take(pa.array(rows))
    if path.suffix == ".csv":
        return tables.write_csv(path, columns)
    if not path.suffix:
        data.need_pictures("a folder of pictures to answer about")
        del columns["answer"], columns["by"]
        return files.write_folder(path, _pictures(columns, data, rows))
    if data.drawn:
        columns["image"] = [png(data, row) for row in rows]
    return tables.write(path, columns)


def _pictures(
    columns: dict[str, Any], data: Dataset, rows: list[int]
) -> Iterator[tuple[str, bytes]]:
    """The files of a folder: the sheet, a folder of each answer, and the pictures."""
    yield SHEET, tables.spreadsheet(columns)
    yield from ((f"{home}/", b"") for home in _homes(data))
    yield from ((_picture(number), png(data, row)) for number, row in enumerate(rows, 1))


def _picture(number: int) -> str:
    return f"{number:05d}.png"


def _homes(data: Dataset) -> dict[str, str]:
    """The answer that each folder stands for."""
    classes = class_folders(data.classes)
    taken = {home.lower() for home in classes}
    rest = [word for word in (RIGHT, WRONG, UNSURE) if word not in taken]
    return dict(zip([*classes, *rest], [*data.classes, *rest], strict=True))


def _sorted(path: Path, data: Dataset) -> dict[str, list[str]]:
    """The columns of a folder's sheet, with the answers that its pictures were moved to.

    Raises InputError for a picture that is gone or in two places, and for an unknown folder.
    """
    table = _columns(path / SHEET, COLUMNS[:-2])
    homes, places = _homes(data), defaultdict(list)
    for each in sorted(path.glob("*/*.png")):
        places[each.name].append(each.parent.name)
    for each in path.glob("*.png"):
        places[each.name].append("")
    answers = []
    for number in range(1, len(table["number"]) + 1):
        found = places.pop(_picture(number), [])
        if not found:
            raise InputError(
                f"{path}: {_picture(number)} is gone; move it to {UNSURE} where you cannot tell"
            )
        if len(found) > 1:
            where = " and in ".join(home or "the folder itself" for home in found)
            raise InputError(f"{path}: {_picture(number)} is in {where}; leave it in one")
        if found[0] and found[0] not in homes:
            raise unknown(f"folder of {path}", found[0], homes)
        answers.append(homes.get(found[0], ""))
    return table | {"answer": answers, "by": [""] * len(answers)}


def answered(drawing: Drawing, data: Dataset, path: Path) -> list[Answer]:
    """What a person wrote into a sheet, up to the first image without an answer.

    An answer is the name of the right class, or right (the given label is), wrong (it is not, and
    which is right is not known), or unsure. Raises InputError, with the line, for a sheet of
    another run, a line that is missing, twice or not of this sheet, an answer that is none of
    these, and one that is missing between others.
    """
    table = _sorted(path, data) if path.is_dir() else _columns(path, COLUMNS[:-1])
    numbers, names = table["number"], table["name"]
    rows = asked(drawing.images(max(len(numbers), 1)))[: len(numbers)]
    known = data.names.take(pa.array(rows)).to_pylist()
    for line, (number, name) in enumerate(zip(numbers, names, strict=True), 2):
        if number != str(line - 1):
            raise InputError(
                f"{path}, line {line}: this is number {number or 'nothing'}, where {line - 1} is "
                "expected; a line is missing, stands twice or was moved"
            )
        if name != known[line - 2]:
            raise InputError(
                f"{path}, line {line}: {name} was not drawn here; the sheet is of another run, or "
                "of another seed"
            )
    given = table["answer"]
    last = max((place for place, text in enumerate(given) if text), default=-1)
    found, seen = [], set()
    for place, text in enumerate(given[: last + 1]):
        row = rows[place]
        if not text:
            raise InputError(
                f"{path}, line {place + 2}: {names[place]} has no answer, though later images "
                f"have; write {UNSURE} where it cannot be told"
            )
        found.append(
            Answer(row, meant(text, row, data, path, place), row in seen, table["by"][place])
        )
        seen.add(row)
    if not found:
        raise InputError(f"{path} has no answers yet; write them into its column 'answer'")
    return found


def questioned(
    drawing: Drawing, data: Dataset, count: int, ask: Callable[[Mapping[str, Any]], str] | None
) -> list[Answer]:
    """The answers of a function that is asked about one image after the other."""
    assert ask is not None
    found, seen = [], set()
    for place, row in enumerate(asked(drawing.images(count))):
        proposed = int(drawing.proposed[row])
        facts = {
            "row": row,
            "name": data.name(row),
            "given": data.classes[int(drawing.labels[row])],
            "proposed": data.classes[proposed] if proposed >= 0 else None,
            "p_wrong": float(drawing.p_wrong[row]),
        }
        right = meant(str(ask(facts)), row, data, "what was answered", place)
        found.append(Answer(row, right, row in seen))
        seen.add(row)
    return found


def meant(text: str, row: int, data: Dataset, path: Path | str, place: int) -> int | None:
    """The class that an answer names. Raises InputError for one that is not there."""
    if text in data.classes:
        return data.classes.index(text)
    special = {RIGHT: int(data.labels[row]), WRONG: -1, UNSURE: None}
    if text not in special:
        raise unknown(f"answer in line {place + 2} of {path}:", text, [*special, *data.classes])
    return special[text]


def _columns(path: Path, wanted: Sequence[str]) -> dict[str, list[str]]:
    """The columns of a sheet as text. Raises InputError where it is none."""
    if not path.is_file():
        raise InputError(f"there is no sheet of answers at {path}; make one with --draw and --out")
    try:
        table = readers.read_table(path) if path.suffix == ".parquet" else readers.read_csv(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if lost := [name for name in wanted if name not in table.column_names]:
        raise InputError(f"{path} is no sheet of answers: it has no column {', '.join(lost)}")
    texts = {
        name: table[name].cast(pa.string()).fill_null("")
        for name in table.column_names
        if name in COLUMNS
    }
    plain = {name: [text.strip() for text in column.to_pylist()] for name, column in texts.items()}
    return {"by": [""] * len(table)} | plain
