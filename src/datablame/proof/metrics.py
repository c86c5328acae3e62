"""How well a ranking finds the labels that are known to be wrong."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from jaxtyping import Bool, Float
from torch import Tensor

from datablame.dataset import Dataset
from datablame.ground import plug, store
from datablame.ground.errors import InputError
from datablame.run import Run
from datablame.scores import Scores

CHANCES = ("lstm", "dividemix", "knn", "datamap")
"""Signals whose values are chances, or shares of votes, that a label is wrong: one half means something."""


def metrics(values: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """ROC-AUC and average precision; the false-negative rate when as many are inspected as are wrong; the share of the wrong
    found when the most suspect 10 % and 20 % are inspected.

    Raises InputError where no label is wrong, or every one: nothing can be ranked then.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    bad = int(wrong.sum())
    if bad in (0, len(wrong)):
        raise InputError(
            f"{'no label is' if not bad else 'every label is'} wrong by the truth: a ranking cannot be measured"
        )
    order = wrong[values.argsort(descending=True, stable=True)].float()

    def found(count: int) -> float:
        return order[:count].sum().item() / bad

    return {
        "roc_auc": float(roc_auc_score(wrong.numpy(), values.numpy())),
        "average_precision": float(average_precision_score(wrong.numpy(), values.numpy())),
        "fnr_at_noise_rate": 1 - found(bad),
        "found_at_10": found(round(len(wrong) * 0.1)),
        "found_at_20": found(round(len(wrong) * 0.2)),
    }


def at_half(chances: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """F1 and accuracy when whatever has a chance above one half is called wrong."""
    called = chances > 0.5
    hits = float((called & wrong).sum())
    return {
        "f1_at_half": 2 * hits / max(1.0, float(called.sum() + wrong.sum())),
        "accuracy_at_half": float((called == wrong).float().mean()),
    }


def against_truth(scores: Scores, data: Dataset) -> dict[str, float | None]:
    """The metrics over the examples whose truth is known; those at one half are None for signals whose values are no chances. Raises InputError where no truth is known."""
    if data.truth is None or data.wrong is None:
        raise InputError("the truth is not known here; name its column with --truth, or plant noise with --noise")
    known = data.truth >= 0
    values, wrong = scores.values[known], data.wrong[known]
    chances = plug.parse(scores.name)[0] in CHANCES and "of=variability" not in scores.name
    half = at_half(values, wrong)
    return {**metrics(values, wrong), **{name: value if chances else None for name, value in half.items()}}


def over(tables: Sequence[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, dict[str, float] | None]]:
    """Of several runs' tables, one: mean and standard deviation over the runs of what all of them have."""
    names = [name for name in tables[0] if all(name in table for table in tables)]

    def entry(name: str, key: str) -> dict[str, float] | None:
        values = [value for table in tables if (value := table[name][key]) is not None]
        if not values:
            return None
        return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}

    return {name: {key: entry(name, key) for key in tables[0][name]} for name in names}


def headline(run: Run) -> dict[str, float | None] | None:
    """The metrics of the scores that the run was judged by, where they were measured."""
    measures, judged = run.path / "measures.json", run.path / "verdict.json"
    return (
        store.read_json(measures).get(store.read_json(judged)["scores"])
        if measures.exists() and judged.exists()
        else None
    )
