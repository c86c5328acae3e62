"""Verdict: what should be done with every training example."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from datablame.base import arrays, files, processes, progress, readers, renames, tables
from datablame.base.errors import InputError, at_least, unknown
from datablame.base.results import Result
from datablame.base.shapes import Bool, Float, Int
from datablame.dataset import Dataset
from datablame.scores import Scores

pc = tables.compute()


class Act(IntEnum):
    """What to do with an example: keep it, ask a person, drop it, or fix its label."""

    KEEP = 0
    ASK = 1
    DROP = 2
    FIX = 3


KEEP, ASK, DROP, FIX = Act
HARDLY = 0.01
"""Share of wrong labels below which no lower bound is needed."""
ACTS = tuple(act.name.lower() for act in Act)
COLUMNS = ("name", "given", "proposed", "probability", "act", "score", "by")
P_WRONG = "p_wrong"
"""The name of a verdict's own probabilities, among the scores that are measured."""
MORE = (P_WRONG,)
"""A column that older verdicts lack."""
MATRIX = "noise_matrix.npy"
CONFUSED = 1000
"""Classes up to which the matrix of given and right ones is kept."""


@dataclass(frozen=True, eq=False, repr=False)
class Verdict(Result):
    """An act for every example: keep it, ask a person (hard, not clearly wrong), drop it, or fix
    its label.

    `proposed` is the label that held-out or late predictions support, -1 where they support none
    other than the given one; `probability` is its probability by them; `suspicion` the scores it
    was judged by, `cut` the lowest score among examples judged mislabelled, `estimate` how many
    labels are wrong with the ends of its 95 % interval, and `scores` the name of what it was judged
    by. `p_wrong` is the probability that the given label is wrong, and `matrix` how many examples
    of each given class (row) should be of each other one (column).
    """

    act: Int[Tensor, " N"]
    proposed: Int[Tensor, " N"]
    probability: Float[Tensor, " N"]
    suspicion: Float[Tensor, " N"]
    by: str
    cut: float
    estimate: tuple[float, float, float]
    scores: str = "blend"
    p_wrong: Float[Tensor, " N"] | None = None
    matrix: Float[Tensor, "K K"] | None = None
    decided: Int[Tensor, " N"] | None = None
    """Which of `people` settled an example, -1 where none did."""
    people: tuple[str, ...] = ()

    @property
    def whose(self) -> str:
        """Who judged: the judge, and the people who decided some examples."""
        if self.decided is None:
            return self.by
        count = int((self.decided >= 0).sum())
        return f"{self.by}, with {count:,} decisions by {', '.join(self.people)}"

    def by_each(self, rows: Int[Tensor, " n"]) -> list[str]:
        """Who judged each of some examples."""
        if self.decided is None:
            return [self.by] * len(rows)
        names = [*self.people, self.by]
        return [names[who] for who in self.decided[rows].tolist()]

    def standing(self, other: Verdict) -> Verdict:
        """This verdict, with what people decided in another one of the same examples."""
        if other.decided is None:
            return self
        theirs = other.decided >= 0
        fields = ("act", "proposed", "probability", "p_wrong")
        pairs = {name: (getattr(other, name), getattr(self, name)) for name in fields}
        found = {
            name: torch.where(theirs, new, old)
            for name, (new, old) in pairs.items()
            if new is not None and old is not None
        }
        return dataclasses.replace(self, **found, decided=other.decided, people=other.people)

    @property
    def told(self) -> bool:
        """Whether the number of wrong labels can be told: there is a lower bound, or hardly any."""
        return self.estimate[1] > 0 or self.estimate[2] <= HARDLY * len(self.act)

    @property
    def expected(self) -> tuple[float, float]:
        """The share of the suspects that is wrong, and that of the wrong among them, by p_wrong."""
        if self.p_wrong is None:
            return 0.0, 0.0
        held = torch.isin(self.act, torch.tensor([DROP, FIX]))
        hits = float(self.p_wrong[held].sum())
        return hits / max(int(held.sum()), 1), hits / max(float(self.p_wrong.sum()), 1e-9)

    def by_class(self, data: Dataset) -> dict[str, dict[str, float]]:
        """Of each class its examples, and how many of these labels are wrong, with the ends of the
        interval.
        """
        if self.p_wrong is None:
            return {}
        sizes = data.labels.bincount(minlength=len(data.classes))
        wrong = torch.zeros(len(data.classes)).index_add_(0, data.labels, self.p_wrong)
        rows = zip(data.classes, sizes.tolist(), wrong.tolist(), strict=True)
        return {name: {"examples": size} | self._between(count) for name, size, count in rows}

    def confusions(self, data: Dataset, count: int = 10) -> list[dict[str, Any]]:
        """The pairs of a given and a right class that are most often confused: how many examples,
        with the ends of the interval.
        """
        if self.matrix is None:
            return []
        most = self.matrix.flatten().sort(descending=True, stable=True)
        pairs = zip(most.indices[:count].tolist(), most.values[:count].tolist(), strict=True)
        names = data.classes
        return [
            {"given": names[pair // len(names)], "right": names[pair % len(names)]}
            | self._between(value)
            for pair, value in pairs
            if value >= 0.5
        ]

    def _between(self, count: float) -> dict[str, float]:
        """A part of the estimate, with its share of the interval and that of its own size."""
        middle, low, high = self.estimate
        own = 1.96 * max(count, 1.0) ** 0.5
        least = max(0.0, count * low / max(middle, 1e-9) - own)
        most = count * high / max(middle, 1e-9) + own
        return {"wrong": round(count, 1), "low": round(least, 1), "high": round(most, 1)}

    def to_json(self) -> dict[str, Any]:
        """How many examples each act has, the estimate of wrong labels, and by what."""
        suspects, (estimate, low, high) = self.count(DROP, FIX), self.estimate
        return {
            "suspects": suspects,
            "suspect_share": suspects / len(self.act),
            "acts": {act: self.count(code) for code, act in enumerate(ACTS)},
            "by": self.whose,
            "wrong_estimate": estimate,
            "wrong_low": low,
            "wrong_high": high,
            "wrong_told": self.told,
            "expected_precision": self.expected[0] if self.p_wrong is not None else None,
            "expected_recall": self.expected[1] if self.p_wrong is not None else None,
        }

    def columns(self) -> dict[str, Any]:
        """A row for each example: act, proposed class (-1 for none), its probability, suspicion."""
        return {
            "act": [ACTS[act] for act in self.act.tolist()],
            "proposed": self.proposed.numpy(),
            "probability": self.probability.numpy(),
            "suspicion": self.suspicion.numpy(),
        } | ({} if self.p_wrong is None else {"p_wrong": self.p_wrong.numpy()})

    def count(self, *acts: int) -> int:
        return int(torch.isin(self.act, torch.tensor(acts)).sum())

    @property
    def suspects(self) -> Int[Tensor, " s"]:
        """Rows judged mislabelled, the most suspect first."""
        order = self.suspicion.argsort(descending=True, stable=True)
        return order[torch.isin(self.act[order], torch.tensor([DROP, FIX]))]

    def apply(self, data: Dataset) -> Dataset:
        """The cleaned set: dropped rows left out, fixed labels replaced, the rest as it was.

        Raises InputError where nothing would be left.
        """
        if (self.act == DROP).all():
            raise InputError(f"the verdict drops all {len(data):,} examples: nothing would be left")
        return data.relabel(self.labels(data)).take((self.act != DROP).nonzero()[:, 0])

    def labels(self, data: Dataset) -> Int[Tensor, " N"]:
        """The labels, with those that it fixes."""
        return torch.where(self.act == FIX, self.proposed, data.labels)

    def changes(self, data: Dataset, why: Mapping[int, str] = {}) -> dict[str, Any]:
        """A row for each example that is dropped or relabelled: file, from, to (nothing where it is
        dropped), why (of some rows it is given), probability.
        """
        rows = torch.isin(self.act, torch.tensor([DROP, FIX])).nonzero()[:, 0]
        classes = np.array([*data.classes, ""], dtype=object)
        to = torch.where(self.act[rows] == FIX, self.proposed[rows], -1)
        return {
            "file": data.names.take(pa.array(rows.numpy())),
            "from": pa.array(classes[data.labels[rows].numpy()], pa.string()),
            "to": pa.array(classes[to.numpy()], pa.string()),
            "why": pa.array(
                [
                    why.get(row) or f"{ACTS[act]} by {who}"
                    for row, act, who in zip(
                        rows.tolist(), self.act[rows].tolist(), self.by_each(rows), strict=True
                    )
                ]
            ),
            "probability": self.probability[rows].numpy().round(3),
        }

    def save(self, path: Path, data: Dataset) -> Path:
        """verdict.csv, one row an example, the most suspect first: a table that people can edit and
        give back.
        """
        order = self.suspicion.argsort(descending=True, stable=True).numpy()
        names, known = (
            np.array([*data.classes, ""], dtype=object),
            (self.proposed >= 0).numpy()[order],
        )
        columns = {
            "name": data.names.take(pa.array(order)),
            "given": pa.array(names[data.labels.numpy()[order]]),
            "proposed": pa.array(names[self.proposed.numpy()[order]]),
            "probability": pa.array(self.probability.numpy()[order].round(3), mask=~known),
            "act": pa.array(np.array(ACTS, dtype=object)[self.act.numpy()[order]]),
            "score": self.suspicion.numpy()[order],
            "by": pa.array([self.by] * len(data)),
        }
        if self.p_wrong is not None:
            columns["p_wrong"] = self.p_wrong.numpy()[order].round(4)
        tables.write_csv(path, columns)
        files.remove(path.with_name(MATRIX))
        if self.matrix is not None and len(data.classes) <= CONFUSED:
            arrays.write(path.with_name(MATRIX), self.matrix.numpy())
        facts = {"cut": self.cut, "estimate": self.estimate, "by": self.by, "scores": self.scores}
        files.write_json(path.with_suffix(".json"), facts | {"digest": files.digest_of(path)})
        return path

    @staticmethod
    def edited(path: Path) -> bool:
        """Has a person changed this verdict.csv since it was written?"""
        about = path.with_suffix(".json")
        return processes.agree(
            path.exists()
            and about.exists()
            and readers.read_json(about, digest=str)["digest"] != files.digest_of(path)
        )

    @classmethod
    def read(cls, path: Path, data: Dataset) -> Verdict:
        """What `save` wrote, perhaps edited by a person.

        Rows that it lacks count as keep, with a message. Raises InputError, with the line, for a
        name, class, act or number that there is not, a name that stands twice, and a given label
        that is not the set's.
        """
        if not path.exists() or not path.with_suffix(".json").exists():
            raise InputError(f"no verdict at {path}; make one with: datablame judge {path.parent}")
        table = _read_text_csv(path, COLUMNS)
        place = numbers(table["name"], data.names, path, f"example of {data.source}")
        _once(place, path)
        if len(place) < len(data):
            progress.say(
                f"{path} judges {len(place):,} of {len(data):,} examples: the others count as keep"
            )
        act = numbers(table["act"], pa.array(ACTS), path, "act")
        proposed = numbers(table["proposed"], pa.array(data.classes), path, "class", empty=-1)
        if (lost := (act == FIX) & (proposed < 0)).any():
            raise InputError(
                f"{path}, line {int(lost.int().argmax()) + 2}: 'fix' needs a proposed label"
            )
        _of_this_set(table["given"], data, place, path)
        facts = readers.read_json(path.with_suffix(".json"), by=str, cut=(float, int), scores=str)
        every = cls(
            act,
            proposed,
            _real(table["probability"], "probability", path),
            _real(table["score"], "score", path),
            facts["by"] + ", edited by hand" * cls.edited(path),
            facts["cut"],
            _three(facts.get("estimate", facts.get("wrong")), path.with_suffix(".json")),
            facts["scores"],
            _real(table["p_wrong"], "p_wrong", path) if "p_wrong" in table else None,
        )
        matrix = path.with_name(MATRIX)
        if matrix.exists():
            shape = (len(data.classes),) * 2
            counts = readers.read_array(matrix, shape, "f", finite=True)
            every = dataclasses.replace(every, matrix=torch.from_numpy(np.array(counts)))
        return every.spread(place, len(data))

    def take(self, rows: Int[Tensor, " n"]) -> Verdict:
        """What it says of some examples."""
        fields = ("act", "proposed", "probability", "suspicion", "p_wrong", "decided")
        parts = {name: value for name in fields if (value := getattr(self, name)) is not None}
        return dataclasses.replace(self, **{name: value[rows] for name, value in parts.items()})

    def spread(self, place: Int[Tensor, " n"], rows: int) -> Verdict:
        """Scatter these judgements into a set of `rows`; the rest are KEEP."""

        def put(values: Tensor, fill: float) -> Tensor:
            return torch.full((rows,), fill, dtype=values.dtype).index_copy(0, place, values)

        fields = {"act": put(self.act, KEEP), "proposed": put(self.proposed, -1)}
        for name in ("probability", "suspicion", "p_wrong"):
            if (values := getattr(self, name)) is not None:
                fields[name] = put(values, 0)
        return dataclasses.replace(self, **fields)


def _read_text_csv(path: Path, columns: tuple[str, ...]) -> dict[str, pa.Array]:
    """Columns of a verdict as text, by their names of today."""
    there = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    before = {
        name: old
        for name, old in renames.COLUMNS.items()
        if f'"{name}"' not in there and old in there
    }
    columns = tuple(before.get(name, name) for name in columns)
    columns += tuple(name for name in MORE if f'"{name}"' in there)
    try:
        table = readers.read_csv(path, columns)
    except (pa.ArrowInvalid, KeyError) as error:
        raise InputError(
            f"{path} is not a verdict: {str(error).splitlines()[0]} (columns: {', '.join(columns)})"
        ) from None
    now = {old: name for name, old in before.items()}
    return {now.get(name, name): table[name].combine_chunks() for name in columns}


def numbers(
    cells: pa.Array, known: pa.Array, path: Path, what: str, empty: int | None = None
) -> Int[Tensor, " n"]:
    """The place of each cell in `known`; InputError, with the line, for one that is not there."""
    found = pc.index_in(cells, value_set=known)
    lost = (
        pc.is_null(found) if empty is None else pc.and_(pc.is_null(found), pc.not_equal(cells, ""))
    )
    if pc.any(lost).as_py():
        line = pc.index(lost, True).as_py()
        there = known.to_pylist() if len(known) <= 1000 else known[:3].to_pylist()
        raise unknown(f"{what} in line {line + 2} of {path}:", cells[line].as_py(), there)
    return torch.from_numpy(
        found.fill_null(-1 if empty is None else empty)
        .to_numpy(zero_copy_only=False)
        .astype("int64")
    )


def _real(cells: pa.Array, what: str, path: Path) -> Float[Tensor, " n"]:
    """Numbers of a column, 0 where a cell is empty. Raises InputError, with the line, for words."""
    text = pc.if_else(pc.equal(cells, ""), "0", cells)
    plain = pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,2})?$")
    if not pc.all(plain).as_py():
        line = pc.index(plain, False).as_py()
        raise InputError(
            f"{path}, line {line + 2}: {what} is '{cells[line].as_py()}', which is no number such "
            "as 0.25 (with a point)"
        )
    return torch.from_numpy(pc.cast(text, pa.float32()).to_numpy(zero_copy_only=False).copy())


def _three(values: Any, path: Path) -> tuple[float, float, float]:
    """An estimate and the ends of its interval. Raises InputError for anything else."""
    fits = isinstance(values, list) and len(values) == 3
    if not fits or not all(isinstance(value, (int, float)) for value in values):
        raise readers.Damaged(path, "'estimate' is not three numbers")
    estimate, low, high = map(float, values)
    return estimate, low, high


def _once(place: Int[Tensor, " n"], path: Path) -> None:
    """Raises InputError for an example that stands in two lines."""
    order = place.argsort(stable=True)
    twice = (place[order][1:] == place[order][:-1]).nonzero()
    if len(twice):
        first, second = sorted(order[int(twice[0]) + k].item() + 2 for k in (0, 1))
        raise InputError(f"{path}: lines {first} and {second} judge the same example; keep one")


def _of_this_set(given: pa.Array, data: Dataset, place: Int[Tensor, " n"], path: Path) -> None:
    """Raises InputError for a given label that is not the set's."""
    names = pa.array(data.classes).take(pa.array(data.labels[place].numpy()))
    differ = pc.not_equal(given, names)
    if pc.any(differ).as_py():
        line = pc.index(differ, True).as_py()
        raise InputError(
            f"{path}, line {line + 2}: the given label is '{given[line].as_py()}', but "
            f"'{names[line].as_py()}' in this run; the verdict is of another run, or 'given' was "
            "edited: new labels go into 'proposed', with 'fix'"
        )


def most_suspect(
    scores: Scores, share: float
) -> tuple[Bool[Tensor, " N"], tuple[float, float, float]]:
    """(the most suspect share, how many that is as an estimate without an interval of its own).

    Raises InputError for no share.
    """
    if not 0 <= share <= 1:
        raise InputError(f"a share is between 0 and 1; got {share}")
    count = round(share * len(scores.values))
    suspect = torch.zeros(len(scores.values), dtype=torch.bool)
    suspect[scores.values.argsort(descending=True, stable=True)[:count]] = True
    return suspect, (float(count), float(count), float(count))


def least(scores: Scores, held: Bool[Tensor, " N"]) -> float:
    """Lowest suspect score, or the maximum score if nothing is suspect."""
    return float(scores.values[held].min() if held.any() else scores.values.max())


def decide(
    data: Dataset,
    scores: Scores,
    suspect: Tensor,
    opinion: Float[Tensor, "N K"],
    sure: float,
    by: str,
    estimate: tuple[float, float, float],
) -> Verdict:
    """From suspects and a second opinion to acts: wrong and hard are separated here.

    A suspect whose given label the opinion still ranks first is hard: a person is asked. One for
    which another class has at least the probability `sure` gets that label. The others are dropped.
    The only example of a class is hard: no model that left it out knows the class.
    """
    at_least(0, 1, sure=sure)
    own = opinion.gather(1, data.labels[:, None])[:, 0]
    probability, other = opinion.scatter(1, data.labels[:, None], -1.0).max(1)
    alone = data.labels.bincount()[data.labels] == 1
    contradicted = probability > own
    act = torch.full((len(data),), KEEP)
    act[suspect] = ASK
    held = suspect & contradicted & ~alone
    act[held] = DROP
    act[held & (probability >= sure)] = FIX
    proposed, probability = (
        torch.where(contradicted, other, -1),
        torch.where(contradicted, probability, 0.0),
    )
    return Verdict(
        act, proposed, probability, scores.values, by, least(scores, held), estimate, scores.name
    )
