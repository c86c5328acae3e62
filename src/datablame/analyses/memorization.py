"""Memorization: where in the most memorised images it lies, and whether masking those places
removes it.

Zheng & Jiang, 2022. arXiv:2203.12171
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.analyses import scoring
from datablame.base import files, processes, progress, readers
from datablame.base.errors import InputError, unknown
from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.linear_probe.memorization_map import CellAttribution
from datablame.run import Run

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0, 2, 42)
KINDS = ("features", "pixels")


@dataclass(frozen=True, eq=False, repr=False)
class MemorizationMap(Result):
    """One entry per image, the most memorised first: `score [n]`, attribution map `cells [n,h,w]`,
    completeness `error [n]`.

    `highest [s]` and `random [s]` are the mean share of the score that is lost when each of SHARES
    of the cells is masked: the highest ones, or an equal number at random.
    """

    run: Run
    over: str
    rows: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]
    cells: Float[np.ndarray, "n h w"]
    error: Float[np.ndarray, " n"]
    highest: Float[np.ndarray, " s"]
    random: Float[np.ndarray, " s"]

    def pictures(self) -> list[Path]:
        return [
            self.run.path / "figures" / f"memorization-{self.over}{what}.png"
            for what in ("", "-masked")
        ]

    def to_json(self) -> dict[str, Any]:
        return {
            "picture": str(self.pictures()[0]),
            "images": len(self.rows),
            "largest_error": round(float(self.error.max()), 5),
            "lost_by_masking_a_tenth": round(float(self.highest[0]), 4),
            "lost_at_random": round(float(self.random[0]), 4),
        }

    def columns(self) -> dict[str, Any]:
        data = self.run.data
        names = [data.name(int(row)) for row in self.rows]
        labels = [data.classes[int(data.labels[int(row)])] for row in self.rows]
        return {
            "name": names,
            "label": labels,
            "score": self.score.tolist(),
            "error": self.error.tolist(),
        }

    @classmethod
    def read(cls, run: Run, over: str) -> MemorizationMap:
        path = path_of(run, over)
        arrays = readers.read_arrays(path, processes.free() // 2)
        wanted = [each.name for each in dataclasses.fields(cls) if each.name not in ("run", "over")]
        if sorted(wanted) != sorted(arrays):
            raise readers.Damaged(path, f"arrays {', '.join(arrays)}, expected {', '.join(wanted)}")
        return cls(run, over, **arrays)

    def save(self) -> None:
        arrays = {
            name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        files.write_arrays(path_of(self.run, self.over), **arrays)


def path_of(run: Run, over: str) -> Path:
    return run.path / f"memorization-{over}.npz"


def memorization_map(run: Run, classes: Sequence[str], top_k: int, over: str) -> MemorizationMap:
    """The `top_k` most memorised images of each of the classes, or of the whole set without any.

    Raises InputError for what is not there.
    """
    if over not in KINDS:
        raise unknown("place to look for memorization", over, KINDS)
    if top_k < 1:
        raise InputError(f"--top-k is at least 1; got {top_k}")
    data = run.data
    for name in classes:
        if name not in data.classes:
            raise unknown("class", name, data.classes)
    order = scoring.scored(run, "memorization").values.argsort(descending=True, stable=True)
    wanted = [
        order[data.labels[order] == data.classes.index(name)][:top_k] for name in classes
    ] or [order[:top_k]]
    found = CellAttribution.of(run, torch.cat(wanted), over)
    with progress.stage("mask"):
        highest = [float(found.masked(share).mean()) for share in SHARES]
        random = [
            np.mean([float(found.masked(share, seed).mean()) for seed in SEEDS]) for share in SHARES
        ]
    score, cells, error = (each.cpu().numpy() for each in (found.score, found.cells, found.error))
    result = MemorizationMap(
        run, over, found.rows.numpy(), score, cells, error, np.array(highest), np.array(random)
    )
    result.save()
    return result
