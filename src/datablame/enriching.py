"""Enriching: each class as a map of its curves, with easy, hard and need-review images, and the groups that it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int

from datablame.evidence import curves, passes
from datablame.evidence.encoded import features
from datablame.evidence.groups import flat_map, groups
from datablame.ground import clock, plug, store
from datablame.ground.errors import at_least, unknown
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import ACTS, ASK, DROP, KEEP, numbers

NAMES = {KEEP: "easy", DROP: "hard", ASK: "review"}
"""What the acts of the judge `trajectory` are called here."""


@dataclass(frozen=True, eq=False)
class Class:
    """One class of a run: its rows, the act that their curves ask for, where these are highest and where they end (log temperature beside the
    class), their places on the map, and the group of each (-1 for none)."""

    run: Run
    label: int
    rows: Int[np.ndarray, " n"]
    act: Int[np.ndarray, " n"]
    peak: Float[np.ndarray, " n"]
    end: Float[np.ndarray, " n"]
    places: Float[np.ndarray, "n 2"]
    group: Int[np.ndarray, " n"]

    @property
    def name(self) -> str:
        return self.run.data.classes[self.label]

    @property
    def path(self) -> Path:
        return path_of(self.run, self.label)

    def save(self) -> None:
        data = self.run.data
        columns = {
            "name": data.names.take(pa.array(self.rows)),
            "row": self.rows,
            "act": pa.array(np.array(ACTS, dtype=object)[self.act]),
            "peak": self.peak,
            "end": self.end,
            "x": self.places[:, 0].astype("float32"),
            "y": self.places[:, 1].astype("float32"),
            "group": self.group,
        }
        store.write_table(self.path, columns)

    @classmethod
    def read(cls, run: Run, label: int) -> Class:
        from pyarrow import parquet

        table = parquet.read_table(path_of(run, label))
        act = numbers(table["act"].combine_chunks(), pa.array(ACTS), path_of(run, label), "act").numpy()
        row, peak, end, x, y, group = (table[name].to_numpy() for name in ("row", "peak", "end", "x", "y", "group"))
        return cls(run, label, row, act, peak, end, np.stack([x, y], 1), group)

    def of(self, act: int) -> Int[np.ndarray, " n"]:
        return self.rows[self.act == act]


def path_of(run: Run, label: int) -> Path:
    return run.path / "enrich" / f"{label}.parquet"


def enriched(run: Run) -> list[Class]:
    """The classes that were enriched before."""
    found = sorted(int(path.stem) for path in (run.path / "enrich").glob("*.parquet") if path.stem.isdigit())
    return [Class.read(run, label) for label in found]


def enrich(run: Run, classes: Sequence[str], rule: str, least: int) -> list[Class]:
    """Judge by the curves, then map and divide each class. Raises InputError for a class that there is not, or a run without temperatures."""
    data = run.data
    at_least(2 if least else 0, least=least)
    for name in classes:
        if name not in data.classes:
            raise unknown("class", name, data.classes)
    labels = [data.classes.index(name) for name in classes] or data.labels.unique().tolist()
    scores = Scores("sigma", plug.find("signals", "sigma")(run))
    act = plug.find("judges", f"trajectory,rule={rule}")(run, scores).act.numpy()
    shape = curves.shape(run)
    peak, end = shape.peak.numpy(), shape.end.numpy()
    space = features(run) if passes.has_features(run) else None
    found = []
    for label in clock.track(labels, len(labels), "enriching", "classes"):
        which = (data.labels == label).nonzero()[:, 0]
        seen, rows = curves.beside(run, which).T.numpy(), which.numpy()
        own = None if space is None else np.asarray(space[rows])
        each = Class(run, label, rows, act[rows], peak[rows], end[rows], flat_map(seen), groups(seen, own, least))
        each.save()
        found.append(each)
    return found


def summary(found: Sequence[Class]) -> dict[str, dict[str, object]]:
    """Of each class how many are easy, hard and to review, how many groups there are, and the share of wrong labels where it is known."""
    lines: dict[str, dict[str, object]] = {}
    for each in found:
        wrong, line = each.run.data.wrong, lines.setdefault(each.name, {})
        for act, name in NAMES.items():
            rows = torch.from_numpy(each.of(act))
            line[name] = len(rows)
            if wrong is not None:
                line[f"{name}_wrong"] = round(float(wrong[rows].float().mean()), 4) if len(rows) else None
        sizes = np.bincount(each.group[each.group >= 0])
        line |= {"groups": len(sizes), "smallest": int(sizes.min(initial=len(each.rows)))}
    return lines
