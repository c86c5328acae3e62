"""Agreement: how closely signals, or attributions, that should say the same do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.analyses import scoring
from datablame.analyses.queries import picked
from datablame.base import hashing, methods
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.influence.index import found, spearman
from datablame.run import Run


@dataclass(frozen=True, eq=False, repr=False)
class Agreement(Result):
    """How closely others say what `first` says: for each, Pearson and Spearman correlation, and the
    share of its top 10; of attributions their means over queries, and the lowest and highest
    Spearman of a query. `values [Q,n]` are the scores of the first and of each of the others, Q of
    signals being 1.
    """

    run: Run
    first: str
    others: dict[str, dict[str, float]]
    values: Sequence[Tensor]

    def pictures(self) -> list[Path]:
        return [self.run.path / "figures" / "agreement.png"]

    def to_json(self) -> dict[str, Any]:
        """Correlations with the reference, by name."""
        return self.others

    def columns(self) -> dict[str, Any]:
        """A row for each that was compared with the reference."""
        rows = list(self.others.values())
        return {"name": list(self.others)} | {key: [row[key] for row in rows] for key in rows[0]}


def agreement(run: Run, names: Sequence[str], queries: int = 16, rows: int = 1000) -> Agreement:
    """Correlate each named signal, or attribution method, with the first.

    Signals are compared on all training rows, attributions on test queries against a sample of the
    training rows. Raises InputError for fewer than two names.
    """
    if len(names) < 2:
        raise InputError(
            "name two or more signals, or two or more attribution methods: the others are "
            "compared with the first"
        )
    signals = methods.parse(names[0])[0] not in methods.names("attributors")
    values = [
        scoring.scored(run, name).values[None] if signals else _sample(run, name, queries, rows)
        for name in names
    ]
    close = {
        name: _close(values[0], each) for name, each in zip(names[1:], values[1:], strict=True)
    }
    return Agreement(run, names[0], close, values)


def _sample(run: Run, method: str, queries: int, rows: int) -> Tensor:
    """`[Q, n]`: the first test queries against a fixed sample of the training rows."""
    asked = picked(run, queries)
    attributor = methods.find("attributors", method)(run, asked)
    chosen = hashing.permutation(len(run.data), "agree")[:rows]
    return attributor.score(attributor.prepare(torch.arange(len(asked))), chosen).cpu()


def _close(a: Tensor, b: Tensor) -> dict[str, float]:
    """Means over queries, and of several the lowest and highest Spearman."""
    of_each = [spearman(x, y) for x, y in zip(a, b, strict=True)]
    ends = {"spearman_low": min(of_each), "spearman_high": max(of_each)} if len(a) > 1 else {}
    ten = min(10, a.shape[1])
    return {
        "pearson": float(
            np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)])
        ),
        "spearman": float(np.mean(of_each)),
        **ends,
        "top10": found(b.topk(ten, 1).indices, a.topk(ten, 1).indices),
    }
