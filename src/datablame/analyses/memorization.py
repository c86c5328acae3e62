"""Memorization: where in the most memorised images it lies, and whether masking those places
removes it.

Zheng & Jiang, 2022. arXiv:2203.12171
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.analyses import scoring
from datablame.base import arrays, devices, progress, readers
from datablame.base.errors import at_least, unknown
from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.linear_probe.memorization_map import CellAttribution
from datablame.linear_probe.optimum import fitted
from datablame.run import Run

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEEDS = (0, 2, 42)
KINDS = ("features", "pixels")
BLOCK = 512
"""Images whose maps are in memory together."""


@dataclass(frozen=True, eq=False, repr=False)
class MemorizationMap(Result):
    """One entry per image, the most memorised first: `exact [n]`, the score in closed form by which
    they are ordered; `score [n]`, to first order, which the attribution map `cells [n,h,w]` sums
    to; the relative `error [n]` of that sum.

    `highest [s]` and `random [s]` are the mean share of the score that is lost when each of SHARES
    of the cells is masked: the highest ones, or an equal number at random.
    """

    run: Run
    over: str
    rows: Int[np.ndarray, " n"]
    exact: Float[np.ndarray, " n"]
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
            "score": self.exact.tolist(),
            "first_order": self.score.tolist(),
            "error": self.error.tolist(),
        }

    @classmethod
    def read(cls, run: Run, over: str) -> MemorizationMap:
        path = path_of(run, over)
        kept = readers.read_arrays(path, devices.free() // 2)
        wanted = [each.name for each in dataclasses.fields(cls) if each.name not in ("run", "over")]
        if sorted(wanted) != sorted(kept):
            raise readers.Damaged(path, f"arrays {', '.join(kept)}, expected {', '.join(wanted)}")
        return cls(run, over, **kept)

    def save(self) -> None:
        kept = {name: each for name, each in vars(self).items() if isinstance(each, np.ndarray)}
        arrays.write_npz(path_of(self.run, self.over), **kept)


def path_of(run: Run, over: str) -> Path:
    return run.path / f"memorization-{over}.npz"


def memorization_map(run: Run, classes: Sequence[str], top_k: int, over: str) -> MemorizationMap:
    """The `top_k` most memorised images (0: all) of each of the classes, or of the whole set
    without any.

    Raises InputError for what is not there.
    """
    if over not in KINDS:
        raise unknown("place to look for memorization", over, KINDS)
    at_least(0, top_k=top_k)
    data = run.data
    for name in classes:
        if name not in data.classes:
            raise unknown("class", name, data.classes)
    values = scoring.scored(run, "memorization").values
    order = values.argsort(descending=True, stable=True)
    most = top_k or len(data)
    wanted = [order[data.labels[order] == data.classes.index(name)][:most] for name in classes] or [
        order[:most]
    ]
    rows = torch.cat(wanted)
    parts = list(_parts(run, rows, over))
    of_images, shares = zip(*parts, strict=True)
    score, cells, error = (np.concatenate(each) for each in zip(*of_images, strict=True))
    weights = [len(each[0]) for each in of_images]
    highest, random = (np.average(each, 0, weights) for each in zip(*shares, strict=True))
    result = MemorizationMap(
        run, over, rows.numpy(), values[rows].numpy(), score, cells, error, highest, random
    )
    result.save()
    return result


def cells_of(run: Run, rows: Int[np.ndarray, " n"], over: str) -> Float[np.ndarray, "n h w"]:
    """The attribution maps of some images."""
    return CellAttribution.of(run, torch.from_numpy(rows), over).cells.cpu().numpy()


Part = tuple[tuple[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _parts(run: Run, rows: Int[Tensor, " n"], over: str) -> Iterator[Part]:
    """Of BLOCK images at a time: score, map and error of each; the mean share of the score that is
    lost by masking the highest cells, and as many at random.
    """
    head = fitted(run)
    ticker = progress.Ticker(-(-len(rows) // BLOCK), "memorization maps", f"x {BLOCK} images")
    for part in rows.split(BLOCK):
        found = CellAttribution.of(run, part, over, head)
        with progress.stage("mask"):
            highest = np.array([float(found.masked(share).mean()) for share in SHARES])
            random = np.array(
                [np.mean([float(found.masked(s, seed).mean()) for seed in SEEDS]) for s in SHARES]
            )
        arrays = tuple(each.cpu().numpy() for each in (found.score, found.cells, found.error))
        ticker.tick()
        yield arrays, (highest, random)  # type: ignore[misc]  # three arrays
    ticker.close()
