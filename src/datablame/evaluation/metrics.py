"""How well a ranking finds the labels that are known to be wrong."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from datablame.base import methods
from datablame.base.errors import InputError
from datablame.base.results import Result, table
from datablame.base.shapes import Bool, Float
from datablame.dataset import Dataset
from datablame.scores import Scores
from datablame.verdict import P_WRONG

INSPECTED = range(10, 100, 10)
"""Per cent of the examples that are inspected, the most suspect first."""
SHOWN = (
    "roc_auc", "average_precision", "fnr_at_noise_rate", "found_at_10", "found_at_20", "f1_at_half",
    "accuracy_at_half",
)  # fmt: skip
"""Metrics that are printed."""


def metrics(values: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """ROC-AUC and average precision; the false-negative rate when the number inspected is the
    number that are wrong; the share of the wrong found when the most suspect 10, 20, to 90 % are
    inspected.

    Raises InputError where no label is wrong, or every one: nothing can be ranked then.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    bad = int(wrong.sum())
    if bad in (0, len(wrong)):
        raise InputError(
            f"{'no label is' if not bad else 'every label is'} wrong by the truth: a "
            "ranking cannot be measured"
        )
    order = wrong[values.argsort(descending=True, stable=True)].float()

    def found(count: int) -> float:
        return order[:count].sum().item() / bad

    return {
        "roc_auc": float(roc_auc_score(wrong.numpy(), values.numpy())),
        "average_precision": float(average_precision_score(wrong.numpy(), values.numpy())),
        "fnr_at_noise_rate": 1 - found(bad),
        **{f"found_at_{share}": found(round(len(wrong) * share / 100)) for share in INSPECTED},
    }


def at_half(probabilities: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """Precision, recall, F1 and accuracy when whatever has a probability above one half is called
    wrong; a precision of 0 where nothing is.
    """
    called = probabilities > 0.5
    hits = float((called & wrong).sum())
    return {
        "precision_at_half": hits / max(1.0, float(called.sum())),
        "recall_at_half": hits / max(1.0, float(wrong.sum())),
        "f1_at_half": 2 * hits / max(1.0, float(called.sum() + wrong.sum())),
        "accuracy_at_half": float((called == wrong).float().mean()),
    }


def against_truth(scores: Scores, data: Dataset) -> dict[str, float | None]:
    """The metrics over the examples whose truth is known; those at one half are None for signals
    whose values are no probabilities. Raises InputError where no truth is known.
    """
    if data.truth is None or data.wrong is None:
        raise InputError(
            "the truth is not known here; name its column with --truth, or plant noise with --noise"
        )
    known = data.truth >= 0
    values, wrong = scores.values[known], data.wrong[known]
    probabilities = scores.name == P_WRONG or methods.declared(
        "signals", scores.name, "PROBABILITY"
    )
    half = at_half(values, wrong)
    return {
        **metrics(values, wrong),
        **{name: value if probabilities else None for name, value in half.items()},
    }


@dataclass(frozen=True, repr=False)
class Measures(Result):
    """A row of metrics for each score; over several runs, the mean and standard deviation of
    each.
    """

    rows: dict[str, dict[str, Any]]

    @classmethod
    def over(cls, tables: Sequence[Measures]) -> Measures:
        """Of several runs' tables, one: mean and standard deviation of what all of them have."""
        first = tables[0].rows
        names = [name for name in first if all(name in each.rows for each in tables)]

        def entry(name: str, key: str) -> dict[str, float] | None:
            values = [value for each in tables if (value := each.rows[name][key]) is not None]
            if not values:
                return None
            return {
                "mean": statistics.fmean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
            }

        return cls({name: {key: entry(name, key) for key in first[name]} for name in names})

    def to_json(self) -> dict[str, Any]:
        """Metrics by score."""
        return self.rows

    def __str__(self) -> str:
        rows = self.rows.items()
        return table({name: {key: row[key] for key in SHOWN if key in row} for name, row in rows})

    def columns(self) -> dict[str, Any]:
        """A row for each score."""
        keys = next(iter(self.rows.values()), {})
        return {"score": list(self.rows)} | {
            key: [row[key] for row in self.rows.values()] for key in keys
        }
