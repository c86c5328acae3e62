"""Pairs of a query and a training example: what a link method gives, and what is kept of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datablame.dataset import Dataset


@runtime_checkable
class Pairs(Protocol):
    """A way to score queries against training rows, a block of each at a time: neither all queries nor all scores are ever held."""

    size: int
    """Bytes that one held query takes."""
    facts: dict[str, Any]
    """What a result should record of how it was made."""

    def hold(self, queries: Int[Tensor, " q"]) -> Any:
        """What these queries (positions in their set) are met with."""
        ...

    def meet(self, held: Any, rows: Int[Tensor, " b"]) -> Float[Tensor, "q b"]:
        """Each held query against these training rows; higher pushes the query towards its class."""
        ...


@dataclass(frozen=True, eq=False)
class Links:
    """Scores of queries against training rows; higher pushes the query towards its class, lower away from it.

    `path` is their folder, `data` the training set, `values [Q,M]`; `rows [Q,M]` says which training rows they belong to, None that they are all of them in order.
    """

    name: str
    path: Path
    data: Dataset
    queries: Dataset
    values: np.ndarray
    rows: np.ndarray | None
    facts: dict[str, Any]

    def first(self, count: int) -> Links:
        """Of the first queries alone."""
        rows = None if self.rows is None else self.rows[:count]
        return replace(
            self,
            queries=self.queries.take(torch.arange(min(count, len(self.queries)))),
            values=self.values[:count],
            rows=rows,
        )

    def top(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(training rows `[Q,k]`, scores `[Q,k]`) of the strongest for, the first the strongest."""
        return self.picked(k, 1)

    def bottom(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(training rows `[Q,k]`, scores `[Q,k]`) of the strongest against, the first the strongest."""
        return self.picked(k, -1)

    def picked(self, k: int, sign: int) -> tuple[np.ndarray, np.ndarray]:
        places = np.stack([np.argsort(-sign * row, kind="stable")[:k] for row in self.values])
        values = np.take_along_axis(self.values, places, 1)
        return (places if self.rows is None else np.take_along_axis(self.rows, places, 1)), values
