"""Decisions written for other tools, and read back from them.

Label Studio: tasks in its JSON, with `data`, `predictions` and `annotations` of choices. FiftyOne:
the samples.json of its own data set format, with `filepath`, `ground_truth` and `tags`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa

from datablame.base import files, readers, tables
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.decisions import ACTS, RIGHT, UNSURE, WRONG, Decision, Decisions
from datablame.run import Run

SAMPLES = "samples.json"
CHOICE, PICTURE = "label", "image"
"""What they are called in Label Studio's labelling configuration."""
COLUMNS = ("name", "act", "label", "by", "note")


def write(run: Run, kept: Decisions, path: Path) -> Path:
    """All decisions as CSV; or the suspects and what was decided of them: as tasks of Label Studio,
    as samples of FiftyOne where the file is called samples.json.

    Raises InputError for another ending, and for a path that is taken.
    """
    if path.suffix not in (".csv", ".json"):
        raise InputError(f"cannot write decisions to '{path}': name a .csv or a .json file")
    files.refuse_foreign(path, run.data.closed)
    if path.suffix == ".csv":
        return tables.write_csv(
            path, {name: pa.array(each) for name, each in kept.columns().items()}
        )
    if path.name == SAMPLES:
        return files.write_json(path, {"samples": list(_samples(run, kept))})
    return files.write_json(path, list(_tasks(run, kept)))


def _shown(run: Run, kept: Decisions) -> list[int]:
    """The suspects, and what else was decided on."""
    return list(dict.fromkeys([*run.judged.suspects.tolist(), *kept.by_row()]))


def _where(data: Dataset, row: int) -> str:
    """The file of an example, as far as there is one."""
    return f"{data.root}/{data.name(row)}" if data.root else data.name(row)


def _samples(run: Run, kept: Decisions) -> Iterable[dict[str, Any]]:
    """A sample each, with the label that stands in `ground_truth`."""
    data, verdict = run.data, run.undecided
    settled = kept.settled()
    for row in _shown(run, kept):
        given, proposed = data.classes[int(data.labels[row])], int(verdict.proposed[row])
        each = settled.get(row)
        label = given if each is None or each.label < 0 else data.classes[each.label]
        p = None if proposed < 0 else float(verdict.probability[row])
        yield {
            "filepath": _where(data, row),
            "tags": [each.act] if each is not None and each.label < 0 else [],
            "ground_truth": _classified(label),
            "given": _classified(given),
            "proposed": None if p is None else _classified(data.classes[proposed], round(p, 4)),
            "p_wrong": None if verdict.p_wrong is None else round(float(verdict.p_wrong[row]), 4),
            "by": each.by if each is not None else None,
            "note": each.note if each is not None else None,
        }


def _classified(label: str, confidence: float | None = None) -> dict[str, Any]:
    return {"_cls": "Classification", "label": label, "confidence": confidence, "tags": []}


def _tasks(run: Run, kept: Decisions) -> Iterable[dict[str, Any]]:
    """The suspects and what was decided on, a task each."""
    data, verdict = run.data, run.judged
    known = kept.by_row()
    for row in _shown(run, kept):
        proposed, name, where = int(verdict.proposed[row]), data.name(row), _where(data, row)
        given = data.classes[int(data.labels[row])]
        task: dict[str, Any] = {"data": {PICTURE: where, "name": name, "given": given}}
        if proposed >= 0:
            score = float(verdict.probability[row])
            result = [_chosen(data.classes[proposed])]
            task["predictions"] = [
                {"model_version": "datablame", "score": round(score, 4), "result": result}
            ]
        task["annotations"] = [
            {
                "completed_by": {"email": each.by},
                "created_at": each.at,
                "was_cancelled": each.act == UNSURE,
                "result": [] if each.act == UNSURE else [_chosen(_word(each, given, data))],
            }
            for each in known.get(row, [])
        ]
        yield task


def _chosen(word: str) -> dict[str, Any]:
    return {
        "from_name": CHOICE,
        "to_name": PICTURE,
        "type": "choices",
        "value": {"choices": [word]},
    }


def _word(each: Decision, given: str, data: Dataset) -> str:
    """A decision as a choice: the class, or what there is no class for."""
    if each.act == RIGHT:
        return given
    return data.classes[each.label] if each.label >= 0 else each.act


def read(path: Path, data: Dataset) -> list[Decision]:
    """The decisions in a file: our own CSV, Label Studio's JSON or FiftyOne's samples.json.

    Raises InputError for another file, for an example or a class that is not there, and for a name
    that several examples end in.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    if path.suffix == ".csv":
        return list(_of_table(path, data))
    if path.suffix != ".json":
        raise InputError(f"{path} is no file of decisions: a .csv or a .json file is expected")
    try:
        known = readers.parse_json(path.read_bytes(), path)
    except (ValueError, OSError):
        raise InputError(f"{path} is no JSON") from None
    samples = known.get("samples") if isinstance(known, dict) else None
    if isinstance(samples, list):
        return list(_of_samples(path, samples, data))
    if isinstance(known, list) and all(isinstance(task, dict) and "data" in task for task in known):
        return list(_of_tasks(path, known, data))
    raise InputError(
        f"{path} is neither Label Studio's export (a list of tasks) nor FiftyOne's samples.json"
    )


class _Places:
    """Where examples are, by their name, or by the end of it where only one has that."""

    def __init__(self, path: Path, data: Dataset):
        self.path, self.data = path, data
        self.whole = {name: row for row, name in enumerate(data.names.to_pylist())}
        self.ends: dict[str, list[int]] = defaultdict(list)
        for name, row in self.whole.items():
            self.ends[name.rpartition("/")[2]].append(row)

    def row(self, *names: Any) -> int:
        words = [str(name) for name in names if name]
        for word in words:
            if word in self.whole:
                return self.whole[word]
        for word in words:
            found = self.ends.get(word.rpartition("/")[2], [])
            exact = [row for row in found if word.endswith(f"/{self.data.name(row)}")]
            found = exact or found
            if len(found) > 1:
                raise InputError(f"{self.path}: {len(found)} examples end in {word[-80:]}")
            if found:
                return found[0]
        raise InputError(f"{self.path} names {(words or ['nothing'])[0][-80:]}, no example of this")

    def decision(
        self, row: int, word: str, by: str, note: str = "", plain: bool = False
    ) -> Decision:
        """What a class says of an example, or one of ACTS: that alone with `plain`."""
        if word in self.data.classes and not plain:
            label = self.data.classes.index(word)
            same = label == int(self.data.labels[row])
            act, label = (RIGHT, -1) if same else (WRONG, label)
            return Decision(row, act, label, by, note, queue="import")
        if word not in ACTS:
            raise InputError(f"{self.path} names a class that is not there: {word[:60]}")
        return Decision(row, word, by=by, note=note, queue="import")


def _of_table(path: Path, data: Dataset) -> Iterable[Decision]:
    places = _Places(path, data)
    try:
        table = readers.read_csv(path)
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if len(set(table.column_names)) < len(table.column_names):
        raise InputError(f"{path} has a column twice")
    if "name" not in table.column_names or not {"act", "label"} & set(table.column_names):
        raise InputError(f"{path} has no columns name and act (or label)")
    every = {name: table[name].cast(pa.string()).fill_null("").to_pylist()
             for name in (*COLUMNS, "stands") if name in table.column_names}  # fmt: skip
    for place, name in enumerate(every["name"]):
        line = {key: values[place] for key, values in every.items()}
        label, word = line.get("label", ""), line.get("label") or line.get("act", "")
        if word and line.get("stands", "true").lower() != "false":
            row = places.row(name)
            by, note = line.get("by", ""), line.get("note", "")
            yield places.decision(row, word, by, note, not label and word in ACTS)


def _of_tasks(path: Path, tasks: list[dict[str, Any]], data: Dataset) -> Iterable[Decision]:
    places = _Places(path, data)
    for task in tasks:
        about = task["data"] if isinstance(task["data"], dict) else {}
        several = task.get("annotations")
        for each in several if isinstance(several, list) else []:
            if not isinstance(each, dict) or each.get("was_cancelled"):
                continue
            who = each.get("completed_by", "")
            by = str(who.get("email", who.get("id", "")) if isinstance(who, dict) else who)
            results = each.get("result")
            for result in results if isinstance(results, list) else []:
                value = result.get("value") if isinstance(result, dict) else None
                choices = value.get("choices") if isinstance(value, dict) else None
                if isinstance(choices, list) and len(choices) == 1:
                    row = places.row(about.get("name"), *map(_unquoted, about.values()))
                    yield places.decision(row, str(choices[0]), by)


def _unquoted(where: Any) -> str:
    """A path in an address of Label Studio: `/data/local-files/?d=photos/1.jpg`."""
    from urllib.parse import unquote

    return unquote(str(where).rpartition("?d=")[2])


def _of_samples(path: Path, samples: list[Any], data: Dataset) -> Iterable[Decision]:
    """Samples with another label than was given, or with one of ACTS as a tag."""
    places = _Places(path, data)
    for sample in samples:
        if not isinstance(sample, dict) or not isinstance(sample.get("filepath"), str):
            raise InputError(f"{path}: one of its samples has no filepath")
        tags = [tag for tag in sample.get("tags") or [] if tag in ACTS]
        truth = sample.get("ground_truth")
        word = truth.get("label") if isinstance(truth, dict) else None
        if not tags and not isinstance(word, str):
            continue
        row = places.row(sample["filepath"])
        given = data.classes[int(data.labels[row])]
        if tags == [WRONG] and isinstance(word, str) and word != given:
            tags = []  # the right class was named since
        found = places.decision(row, tags[0] if tags else str(word), "FiftyOne", plain=bool(tags))
        if tags or found.act == WRONG:
            yield found
