"""Attribution: which training examples pushed a model towards a query's class, and which away from
it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset


@runtime_checkable
class Attributor(Protocol):
    """Scores queries against training rows, a block of each at a time: neither all queries nor all
    scores are in memory.
    """

    size: int
    """Bytes that one prepared query takes."""
    facts: dict[str, Any]
    """What a result records of how it was made."""

    def prepare(self, queries: Int[Tensor, " q"]) -> Any:
        """What these queries (positions in their set) are compared with: their gradients, their
        features.
        """
        ...

    def score(self, prepared: Any, rows: Int[Tensor, " b"]) -> Float[Tensor, "q b"]:
        """Each prepared query against these training rows; higher pushes the query towards its
        class.
        """
        ...


SHOWN, EACH = 16, 6
"""Queries that are shown, and training images for and against each."""


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Result):
    """Scores of queries against training rows; higher pushes the query towards its class, lower
    away from it.

    `path` is their folder, `data` the training set, `queries` the set of Q queries, `values [Q,M]`;
    `rows [Q,M]` says which training rows they belong to, None for all of them in order. `facts`
    says how they were made, among it `index`, whether the index answered, and how closely it
    agrees.
    """

    name: str
    path: Path
    data: Dataset
    queries: Dataset
    values: np.ndarray
    rows: np.ndarray | None
    facts: dict[str, Any]

    def first(self, count: int) -> Attribution:
        """Of the first queries alone."""
        rows = None if self.rows is None else self.rows[:count]
        queries = self.queries.take(torch.arange(min(count, len(self.queries))))
        return replace(self, queries=queries, values=self.values[:count], rows=rows)

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(training rows `[Q,k]`, scores `[Q,k]`) that pushed hardest towards the class, the
        strongest first.
        """
        return self._picked(k, 1)

    def bottom(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(training rows `[Q,k]`, scores `[Q,k]`) that pushed hardest away from it, the strongest
        first.
        """
        return self._picked(k, -1)

    def _picked(self, k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.stack([np.argsort(-sign * row, kind="stable")[:k] for row in self.values])
        values = np.take_along_axis(self.values, places, 1)
        return (places if self.rows is None else np.take_along_axis(self.rows, places, 1)), values

    def shown(self, count: int = SHOWN) -> list[dict[str, Any]]:
        """For each of the first queries: name, label, prediction, probability, and what pushed
        hardest for and against it.
        """
        some = self.first(min(count, len(self.facts["predictions"])))
        sides = {"for": (1, some.top(EACH)), "against": (-1, some.bottom(EACH))}
        found = []
        for number in range(len(some.queries)):
            predicted, probability = self.facts["predictions"][number]
            entry: dict[str, Any] = {
                "query": some.queries.name(number),
                "label": self.data.classes[some.queries.labels[number]],
                "predicted": self.data.classes[predicted],
                "probability": probability,
            }
            for side, (sign, (rows, values)) in sides.items():
                pairs = zip(rows[number].tolist(), values[number].tolist(), strict=True)
                entry[side] = [self.example(row, score) for row, score in pairs if score * sign > 0]
            found.append(entry)
        return found

    def example(self, row: int, score: float) -> dict[str, Any]:
        """A training example: row, name, label, score, and whether its label is known to be
        wrong.
        """
        data, wrong = self.data, self.data.wrong
        known = wrong is not None and bool(wrong[row])
        return {
            "row": row,
            "name": data.name(row),
            "label": data.classes[data.labels[row]],
            "score": score,
            "wrong": known,
        }

    @property
    def picture(self) -> Path:
        """Where the picture lies: `figures/<folder>.png` of the run."""
        return self.path.parents[1] / "figures" / f"{self.path.name}.png"

    def pictures(self) -> list[Path]:
        """The contact sheet of queries and images."""
        return [self.picture] if self.data.drawn else []

    def to_json(self) -> dict[str, Any]:
        """Method and cost, where the files are, and the strongest images of each query."""
        wanted = ("method", "measure", "seconds", "index", "weights", "effective_dimension")
        known = {name: self.facts[name] for name in wanted if name in self.facts}
        places = {"attribution": str(self.path)}
        if self.data.drawn:
            places["picture"] = str(self.picture)
        return known | places | {"queries": len(self.queries), "explained": self.shown()}

    def columns(self) -> dict[str, Any]:
        """A row for each of the strongest of each query: query, row, name, label, score."""
        lines = [
            {"query": entry["query"]} | example
            for entry in self.shown(len(self.queries))
            for example in (*entry["for"], *entry["against"])
        ]
        return {
            name: [line[name] for line in lines]
            for name in ("query", "row", "name", "label", "score")
        }

    def __str__(self) -> str:
        lines = []
        for entry in self.shown():
            says = f"the model says {entry['predicted']}, {entry['probability']:.0%}"
            lines.append(f"{entry['query']}: {entry['label']} ({says})")
            for way, word in (("for", "towards"), ("against", "away")):
                each = ", ".join(
                    f"{e['name']} [{e['label']}] {e['score']:+.3g}" for e in entry[way][:4]
                )
                lines.append(f"  {word:<8} {each or 'none'}")
        if "index" in self.facts:
            i = self.facts["index"]
            lines.append(
                f"answered by the index in {self.facts['seconds']:.2f} s; on a sample of "
                f"{i['queries']} queries x "
                f"{i['rows']} rows it agrees with the exact scores to Spearman "
                f"{i['spearman']:.3f}, and holds "
                f"{i['top10_before']:.0%} of the exact top 10, {i['top10_after']:.0%} "
                "after ranking again"
            )
        elif "effective_dimension" in self.facts:
            lines.append(
                f"exact; effective dimension {self.facts['effective_dimension']:,.0f} of "
                f"{self.facts['weights']:,} weights"
            )
        return "\n".join([*lines, *(f"picture  {path}" for path in self.pictures())])
