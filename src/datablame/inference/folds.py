"""The folds of a set: which images each leaves out, and what is known of an image from the models
that learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datablame.base import hashing
from datablame.base.errors import InputError
from datablame.base.shapes import Int
from datablame.dataset import Dataset
from datablame.run import Run


@dataclass(frozen=True, eq=False)
class Fold:
    """A run that was trained on all other folds and is tested on this one."""

    run: Run
    rows: Int[Tensor, " n"]
    """Its test images, by their place in the whole set."""
    rest: Int[Tensor, " m"]
    """Its training images."""


def parts(data: Dataset, folds: int, seed: int) -> list[Tensor]:
    """Rows of each fold, every class spread evenly over the folds, groups in one fold each.

    Raises InputError where there are fewer groups than folds.
    """
    if data.grouped:
        assert data.groups is not None
        part = hashing.parted(data.labels, data.groups, (1 / folds,) * folds, "folds", seed)
        found = [(part == fold).nonzero()[:, 0] for fold in range(folds)]
        if not all(map(len, found)):
            raise InputError(
                f"{folds} folds need as many groups that can be left out; {data.source} has "
                f"{len(data.groups.unique())}: ask for fewer --folds"
            )
        return found
    order = torch.cat(
        [
            (data.labels == k).nonzero()[:, 0][
                hashing.permutation(int((data.labels == k).sum()), "folds", seed, k)
            ]
            for k in range(len(data.classes))
        ]
    )
    return [order[fold::folds].sort().values for fold in range(folds)]


def rest(rows: Int[Tensor, " n"], count: int) -> Int[Tensor, " m"]:
    """The rows of `count` that are not among these."""
    left = torch.ones(count, dtype=torch.bool)
    left[rows] = False
    return left.nonzero()[:, 0]


def trained(run: Run) -> list[Fold]:
    """The folds of a run whose models are there."""
    return [
        Fold(Run(run.path / "folds" / str(number), run.trust), rows, rest(rows, len(run.data)))
        for number, rows in enumerate(parts(run.data, run.recipe.folds, run.recipe.seed))
    ]


def spread(run: Run, values: Sequence[Tensor], every: Sequence[Fold]) -> Tensor:
    """The mean of each example's values, of one tensor `[m, ...]` a fold, over the folds that
    trained on it.
    """
    total = torch.zeros(len(run.data), *values[0].shape[1:])
    count = torch.zeros(len(run.data))
    for fold, part in zip(every, values, strict=True):
        total[fold.rest] += part
        count[fold.rest] += 1
    return total / count.view(-1, *[1] * (total.ndim - 1))
