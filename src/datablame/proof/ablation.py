"""Ablation: what becomes of the test accuracy when the most suspect share is left out, or as many at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from datablame import scoring
from datablame.dataset import Dataset
from datablame.evidence import passes
from datablame.ground import draw, store
from datablame.ground.errors import InputError
from datablame.proof.retraining import trained
from datablame.run import Run

COLUMNS = ("signal", "share", "seed", "removed", "test_accuracy", "wrong_left")


def ablation(run: Run, signals: Sequence[str], shares: Sequence[float], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A model for each signal (and for removal at random), share and seed, by the run's recipe with the number of steps kept.

    Rows of COLUMNS; kept as ablation.parquet and ablation.csv. Models that are trained already are not trained again, so an
    interrupted sweep goes on where it stopped. Raises InputError for no shares, no test images, or a share that leaves one class.
    """
    if run.test is None:
        raise InputError(f"{run.path} has no test split: removals are compared on test images")
    if not signals or not shares or not all(0 <= share < 1 for share in shares):
        raise InputError(f"name one signal or more, and shares from 0 to less than 1; {[*shares]} was asked")
    table = []
    for signal in [*signals, "random"]:
        for share in shares:
            for seed in seeds:
                data = thinned(run, signal, share, seed)
                other = trained(run, f"{signal} without {share:.0%}", data, seed)
                left = None if data.wrong is None else int(data.wrong.sum())
                entry = (signal, share, seed, len(run.data) - len(data), passes.accuracy(other), left)
                table.append(dict(zip(COLUMNS, entry, strict=True)))
    columns = {name: [row[name] for row in table] for name in COLUMNS}
    columns["wrong_left"] = [-1 if left is None else left for left in columns["wrong_left"]]
    store.write_table(run.path / "ablation.parquet", columns)
    store.write_csv(run.path / "ablation.csv", columns)
    return table


def thinned(run: Run, signal: str, share: float, seed: int) -> Dataset:
    """The training set without its most suspect share by a signal, or without as many drawn at random."""
    count = round(share * len(run.data))
    if not count:
        return run.data
    if signal == "random":
        gone = draw.permutation(len(run.data), "ablation", seed)[:count]
    else:
        gone = scoring.scored(run, signal).values.argsort(descending=True, stable=True)[:count]
    left = torch.ones(len(run.data), dtype=torch.bool)
    left[gone] = False
    data = run.data.take(left.nonzero()[:, 0])
    if len(data.labels.unique()) < 2:
        raise InputError(f"removing {share:.0%} by {signal} would leave one class only; ask for a smaller share")
    return data


def summary(table: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean test accuracy of each signal at each share: `{signal: {"20 %": 0.81}}`."""
    out: dict[str, dict[str, float]] = {}
    for row in table:
        mine = [r["test_accuracy"] for r in table if (r["signal"], r["share"]) == (row["signal"], row["share"])]
        out.setdefault(row["signal"], {})[f"{row['share']:.0%} out"] = round(float(np.mean(mine)), 5)
    return out
