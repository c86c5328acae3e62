"""Locating: where in its most memorised images a run's memorization lies, and whether it does lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from datablame import scoring
from datablame.evidence.matrix import Matrix
from datablame.ground import clock, store
from datablame.ground.errors import InputError, unknown
from datablame.run import Run

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0, 2, 42)
KINDS = ("features", "pixels")


@dataclass(frozen=True, eq=False)
class Located:
    """Of the most memorised images, the strongest first: first-order memorization, its parts over the image, the relative error of their sum;
    and the mean share of the score that is lost when the highest cells are masked, or as many at random."""

    run: Run
    over: str
    rows: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    cells: Float[np.ndarray, "n h w"]
    error: Float[np.ndarray, " n"]
    highest: Float[np.ndarray, " s"]
    random: Float[np.ndarray, " s"]

    @classmethod
    def read(cls, run: Run, over: str) -> Located:
        with np.load(path_of(run, over), allow_pickle=False) as file:
            return cls(run, over, **{name: file[name] for name in file.files})

    def save(self) -> None:
        arrays = {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        store.write_arrays(path_of(self.run, self.over), **arrays)


def path_of(run: Run, over: str) -> Path:
    return run.path / f"matrix-{over}.npz"


def located(run: Run, classes: Sequence[str], top: int, over: str) -> Located:
    """The `top` most memorised images of each of the classes, or of the whole set without any. Raises InputError for what is not there."""
    if over not in KINDS:
        raise unknown("place to look for memorization", over, KINDS)
    if top < 1:
        raise InputError(f"one image or more is located; --top {top} was asked")
    data = run.data
    for name in classes:
        if name not in data.classes:
            raise unknown("class", name, data.classes)
    order = scoring.scored(run, "memorization").values.argsort(descending=True, stable=True)
    wanted = [order[data.labels[order] == data.classes.index(name)][:top] for name in classes] or [order[:top]]
    found = Matrix.of(run, torch.cat(wanted), over)
    with clock.stage("mask"):
        highest = [float(found.masked(share).mean()) for share in SHARES]
        random = [np.mean([float(found.masked(share, seed).mean()) for seed in SEEDS]) for share in SHARES]
    score, cells, error = (each.cpu().numpy() for each in (found.score, found.cells, found.error))
    result = Located(run, over, found.rows.numpy(), score, cells, error, np.array(highest), np.array(random))
    result.save()
    return result
