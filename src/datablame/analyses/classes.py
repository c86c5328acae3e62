"""Classes by their temperature curves: easy, hard and need-review images, a map, and the groups
each is made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from datablame.base import methods, progress, readers, tables
from datablame.base.errors import at_least, unknown
from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.dynamics import temperature_curves
from datablame.dynamics.groups import flat_map, groups
from datablame.inference import predictions
from datablame.inference.features import features
from datablame.run import Run, plain
from datablame.scores import Scores
from datablame.verdict import ACTS, ASK, DROP, KEEP, numbers

NAMES: dict[int, str] = {KEEP: "easy", DROP: "hard", ASK: "review"}
"""What the acts of the judge `trajectory` are called here."""
PICTURES = ("kinds", "map", "groups")
MAPPED = 1_000
"""Images of a class that have a place on its map, spread over the class."""


@dataclass(frozen=True, eq=False)
class ClassView:
    """One class of a run: `rows [n]`, the act that each curve asks for, its peak and final log
    temperature relative to the class median, its place on the map, and its group (-1 for none)."""

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

    def picture(self, name: str) -> Path:
        """Where one of PICTURES is kept; as PDF beside it."""
        mine = f"classes-{self.label}-{plain(self.name)[:40]}-{name}.png"
        return self.run.path / "figures" / mine

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
        tables.write(self.path, columns)

    @classmethod
    def read(cls, run: Run, label: int) -> ClassView:
        floats = dict.fromkeys(("peak", "end", "x", "y"), "float")
        path = path_of(run, label)
        table = readers.read_table(path, act="string", row="int", group="int", **floats)
        act = numbers(
            table["act"].combine_chunks(), pa.array(ACTS), path_of(run, label), "act"
        ).numpy()
        row, peak, end, x, y, group = (
            table[name].to_numpy() for name in ("row", "peak", "end", "x", "y", "group")
        )
        return cls(run, label, row, act, peak, end, np.stack([x, y], 1), group)

    def of(self, act: int) -> Int[np.ndarray, " n"]:
        return self.rows[self.act == act]


def path_of(run: Run, label: int) -> Path:
    return run.path / "classes" / f"{label}.parquet"


def classes_of(run: Run) -> list[ClassView]:
    """The classes that were looked at before."""
    found = sorted(
        int(path.stem) for path in (run.path / "classes").glob("*.parquet") if path.stem.isdigit()
    )
    return [ClassView.read(run, label) for label in found]


def divided(
    run: Run, classes: Sequence[str], rule: str, least: int, curves: str = "log"
) -> list[ClassView]:
    """Judge by the curves, then map and divide each class, by its `log` curves or `raw` ones.

    Raises InputError for a class that there is not, or a run without temperatures.
    """
    data = run.data
    at_least(2 if least else 0, least=least)
    for name in classes:
        if name not in data.classes:
            raise unknown("class", name, data.classes)
    labels = [data.classes.index(name) for name in classes] or data.labels.unique().tolist()
    scores = Scores("temperature", methods.find("signals", "temperature")(run))
    act = methods.find("judges", f"trajectory,rule={rule}")(run, scores).act.numpy()
    shape = temperature_curves.shape(run)
    peak, end = shape.peak.numpy(), shape.end.numpy()
    space = features(run) if predictions.has_features(run) else None
    found = []
    for label in progress.track(labels, len(labels), "dividing", "classes"):
        which = (data.labels == label).nonzero()[:, 0]
        seen, rows = temperature_curves.curves(run, which, curves).T.numpy(), which.numpy()
        own = None if space is None else np.asarray(space[rows])
        each = ClassView(
            run,
            label,
            rows,
            act[rows],
            peak[rows],
            end[rows],
            _mapped(seen),
            groups(seen, own, least),
        )
        each.save()
        found.append(each)
    return found


def _mapped(curves: Float[np.ndarray, "n T"]) -> Float[np.ndarray, "n 2"]:
    """Places on the map of up to MAPPED examples, spread over the class; NaN for the others."""
    places = np.full((len(curves), 2), np.nan)
    some = np.linspace(0, len(curves) - 1, min(MAPPED, len(curves))).round().astype(int)
    places[some] = flat_map(curves[some])
    return places


def summary(found: Sequence[ClassView]) -> dict[str, dict[str, object]]:
    """Of each class how many are easy, hard and to review, how many groups there are, and the share
    of wrong labels where it is known.
    """
    lines: dict[str, dict[str, object]] = {}
    for each in found:
        wrong, line = each.run.data.wrong, lines.setdefault(each.name, {})
        for act, name in NAMES.items():
            rows = torch.from_numpy(each.of(act))
            line[name] = len(rows)
            if wrong is not None:
                line[f"{name}_wrong"] = (
                    round(float(wrong[rows].float().mean()), 4) if len(rows) else None
                )
        sizes = np.bincount(each.group[each.group >= 0])
        line |= {"groups": len(sizes), "smallest": int(sizes.min(initial=len(each.rows)))}
    return lines


@dataclass(frozen=True, eq=False, repr=False)
class Classes(Result):
    """What the curves of each class show."""

    every: Sequence[ClassView]

    def pictures(self) -> list[Path]:
        return [each.picture(name) for each in self.every for name in PICTURES]

    def to_json(self) -> dict[str, Any]:
        return summary(self.every)

    def columns(self) -> dict[str, Any]:
        rows = list(summary(self.every).values())
        return {"class": [each.name for each in self.every]} | {
            name: [row[name] for row in rows] for name in rows[0]
        }
