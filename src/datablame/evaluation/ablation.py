"""Ablation: what becomes of the test accuracy when the most suspect share is left out, or an equal
number at random.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.analyses import scoring
from datablame.base import arrays, devices, hashing, methods, progress, tables
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.base.shapes import Bool, Float, Int
from datablame.dataset import Dataset
from datablame.evaluation.retraining import Training, unique
from datablame.inference import predictions
from datablame.inference.features import Encoded, encoded
from datablame.linear_probe.optimum import (
    BLOCK,
    Basis,
    Problem,
    optimum,
    theta_of,
    through,
    with_one,
)
from datablame.network.classifier import Classifier, view_of
from datablame.run import Run

COLUMNS = ("signal", "share", "seed", "noise", "strength", "removed", "test_accuracy", "wrong_left")
Look = tuple[str, float]
"""A noise on the pixels of the test images, and its strength; ("none", 0) for the images as they
are."""


def ablation(
    run: Run,
    signals: Sequence[str],
    shares: Sequence[float],
    seeds: Sequence[int],
    noises: Sequence[str] = (),
    strengths: Sequence[float] = (),
) -> Ablation:
    """A model for each signal (and for removal at random), share and seed, by the run's recipe with
    the number of steps kept, tried on the test images as they are and under each noise and
    strength.

    Rows of COLUMNS; kept as ablation.parquet and ablation.csv, and what each left out of the
    training set as ablation-left-out.parquet. What is trained already is not trained again, so an
    interrupted sweep goes on where it stopped. Raises InputError for no shares, no test images, a
    noise that changes labels, or a share that leaves one class.
    """
    test = _checked(run, signals, shares, seeds)
    looks = [("none", 0.0), *((noise, strength) for noise in noises for strength in strengths)]
    view = view_of(run.recipe.model)
    tests = {look: _seen(test, *look).looked_at(view) for look in looks}
    probe = _Heads(run) if run.recipe.trainer == "linear_probe" else None
    table, gone = [], []
    for signal in [*signals, "random"]:
        for share in shares:
            keep = torch.stack([_left(run, signal, share, seed) for seed in seeds])
            kind = _kind(signal, share)
            gone += [
                (signal, share, seed, (~rows).nonzero()[:, 0].numpy())
                for seed, rows in zip(seeds, keep, strict=True)
            ]
            each = probe.tried(keep, tests) if probe else _nets(run, kind, keep, seeds, tests)
            wrong = run.data.wrong
            for look, values in each.items():
                for seed, rows, accuracy in zip(seeds, keep, values, strict=True):
                    entry = signal, share, seed, *look, int((~rows).sum()), accuracy
                    known = None if wrong is None else int(wrong[rows].sum())
                    table.append(dict(zip(COLUMNS, (*entry, known), strict=True)))
    columns = {name: [row[name] for row in table] for name in COLUMNS}
    columns["wrong_left"] = [-1 if known is None else known for known in columns["wrong_left"]]
    tables.write(run.path / "ablation.parquet", columns)
    tables.write_csv(run.path / "ablation.csv", columns)
    names = ("signal", "share", "seed", "rows")
    left_out: dict[str, Any] = dict(zip(names, map(list, zip(*gone, strict=True)), strict=True))
    tables.write(run.path / "ablation-left-out.parquet", left_out)
    return Ablation(run, table)


def _seen(test: Dataset, noise: str, strength: float) -> Dataset:
    """The test images under a noise."""
    if noise == "none":
        return test
    found = methods.find("noises", noise)(test, strength, 0)
    if not torch.equal(found.labels, test.labels):
        raise InputError(
            f"{noise} changes labels; test images are looked at under noise on their "
            "pixels: pixel_normal, pixel_uniform"
        )
    return found


def _left(run: Run, signal: str, share: float, seed: int) -> Bool[Tensor, " N"]:
    """Which examples stay when the most suspect share by a signal goes, or an equal number drawn at
    random.
    """
    count, kept = round(share * len(run.data)), torch.ones(len(run.data), dtype=torch.bool)
    if signal == "random":
        gone = hashing.permutation(len(run.data), "ablation", seed)[:count]
    else:
        gone = scoring.scored(run, signal).values.argsort(descending=True, stable=True)[:count]
    kept[gone] = False
    if int(kept.sum()) < len(run.data.classes):
        raise InputError(
            f"removing {share:.0%} would leave {int(kept.sum())} examples for "
            f"{len(run.data.classes)} classes; ask for a smaller share"
        )
    if len(run.data.labels[kept].unique()) < 2:
        raise InputError(
            f"removing {share:.0%} by {signal} would leave one class only; ask for a smaller share"
        )
    return kept


def trainings(
    run: Run, signals: Sequence[str], shares: Sequence[float], seeds: Sequence[int]
) -> list[Training]:
    """What `ablation` trains, each once: what several machines can share.

    Raises InputError for what it would refuse, and for heads, which are fitted all at once.
    """
    _checked(run, signals, shares, seeds)
    if run.recipe.trainer == "linear_probe":
        raise InputError(
            "heads of a frozen encoder are fitted all at once, in minutes; leave out --part"
        )
    return unique(
        _training(run, _kind(signal, share), _left(run, signal, share, seed), seed)
        for signal in [*signals, "random"]
        for share in shares
        for seed in seeds
    )


def _training(run: Run, kind: str, rows: Bool[Tensor, " N"], seed: int) -> Training:
    data = run.data if rows.all() else run.data.take(rows.nonzero()[:, 0])
    return Training(run, kind, data, run.recipe.but(seed=seed), run.path.parent)


def _kind(signal: str, share: float) -> str:
    return f"{signal} without {share:.0%}"


def _checked(
    run: Run, signals: Sequence[str], shares: Sequence[float], seeds: Sequence[int]
) -> Dataset:
    """The test images. Raises InputError where there are none, for no signals or seeds, and for
    shares that are none.
    """
    if run.test is None:
        raise InputError(f"{run.path} has no test split: removals are compared on test images")
    if not signals or not seeds:
        raise InputError(
            f"name one signal or more, and one seed or more; got {[*signals]} and {[*seeds]}"
        )
    if not shares or not all(0 <= share < 1 for share in shares):
        raise InputError(f"name shares from 0 to less than 1; got {[*shares]}")
    return run.test


def _nets(
    run: Run, kind: str, keep: Bool[Tensor, "R N"], seeds: Sequence[int], tests: dict[Look, Dataset]
) -> dict[Look, list[float | None]]:
    """Test accuracies of models that are trained anew, one after the other."""
    found: dict[Look, list[float | None]] = {look: [] for look in tests}
    for rows, seed in zip(keep, seeds, strict=True):
        other = _training(run, kind, rows, seed).made()
        for (noise, strength), test in tests.items():
            if noise == "none":
                accuracy = predictions.accuracy(other)
            else:
                p = predictions.probabilities(other, test)
                accuracy = round(float(np.mean(p.argmax(1) == test.labels.numpy())), 5)
            found[noise, strength].append(accuracy)
    return found


class _Heads:
    """Heads at their optimum on features that do not change: all sets of a share at once, the same
    set fitted once.
    """

    def __init__(self, run: Run):
        self.run = run
        self.model: Classifier = run.model  # type: ignore[assignment]  # newton trains no other
        self.problem = Problem.of(run, encoded(self.model, run.data))

    @functools.cached_property
    def basis(self) -> Basis:
        return Basis.of(self.problem)

    def fitted(self, keep: Bool[Tensor, "R N"]) -> Float[Tensor, "R K d"]:
        """The optimum of each set, kept in the run's folder."""

        def fit() -> np.ndarray:
            with progress.stage("fit heads"):
                start = theta_of(self.model.head).expand(len(keep), -1, -1)  # type: ignore[arg-type]  # a linear one
                return optimum(self.problem.but(keep=keep), start, self.basis).cpu().numpy()

        return torch.from_numpy(
            self.run.keep(f"ablation/{arrays.digest(keep.numpy())}", fit).copy()
        )

    def tried(
        self, keep: Bool[Tensor, "R N"], tests: dict[Look, Dataset]
    ) -> dict[Look, list[float | None]]:
        """Test accuracies of each set's head."""
        unique, place = keep.unique(dim=0, return_inverse=True)
        theta = self.fitted(unique)
        found: dict[Look, list[float | None]] = {}
        for look, test in tests.items():
            right = _hits(encoded(self.model, test), test.labels, theta)
            found[look] = [round(float(right[which]), 5) for which in place]
        return found


def _hits(
    features: Encoded, labels: Int[Tensor, " n"], theta: Float[Tensor, "R K d"]
) -> Float[Tensor, " R"]:
    """Share of the examples that each head gets right."""
    right, theta = torch.zeros(len(theta)), theta.to(devices.device())
    for rows in torch.arange(len(labels)).split(BLOCK):
        prediction = through(with_one(features.at(rows)), theta).argmax(2).cpu()
        right += (prediction == labels[rows, None]).float().sum(0)
    return right / len(labels)


@dataclass(frozen=True, repr=False)
class Ablation(Result):
    """Rows of COLUMNS, a retrained model each."""

    run: Run
    rows: Sequence[dict[str, Any]]

    def pictures(self) -> list[Path]:
        return sorted((self.run.path / "figures").glob("ablation*.png"))

    def to_json(self) -> dict[str, Any]:
        """Mean test accuracy of each signal at each share on the images as they are: `{signal: {"20
        % out": 0.81}}`.
        """
        out: dict[str, dict[str, float]] = {}
        for row in self.rows:
            if row["noise"] != "none":
                continue
            same = ("signal", "share", "noise")
            mine = [
                r["test_accuracy"] for r in self.rows if all(r[name] == row[name] for name in same)
            ]
            out.setdefault(row["signal"], {})[f"{row['share']:.0%} out"] = round(
                float(np.mean(mine)), 5
            )
        return out

    def columns(self) -> dict[str, Any]:
        return {name: [row[name] for row in self.rows] for name in COLUMNS}
