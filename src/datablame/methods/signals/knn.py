"""Label agreement among nearest neighbours in feature space.

Bahri, Jiang, Gupta, 2020 (deep k-NN). arXiv:2004.12289
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.base import processes, progress
from datablame.base.errors import at_least
from datablame.base.shapes import Float
from datablame.inference.features import features
from datablame.run import Run

BLOCK = 1 << 26
"""Cosines held at a time."""

PROBABILITY, NEEDS = True, "features"


def knn(run: Run, k: int = 50) -> Float[Tensor, " N"]:
    """Share of the `k` nearest other examples (cosine of the encoder's features) whose label
    differs, the nearer counting more.
    """
    at_least(1, k=k)
    kept = torch.from_numpy(features(run).astype("float32"))
    with progress.stage("neighbours"):
        space = normalize(kept.to(processes.device()))
        labels = run.data.labels.to(space.device)
        k = min(k, len(space) - 1)
        blocks = torch.arange(len(space), device=space.device).split(max(1, BLOCK // len(space)))
        return torch.cat(
            [
                disagreement(space, labels, rows, k)
                for rows in progress.track(blocks, len(blocks), "neighbours", "blocks")
            ]
        ).cpu()


def disagreement(
    space: Float[Tensor, "N D"], labels: Tensor, rows: Tensor, k: int
) -> Float[Tensor, " B"]:
    """For one block of rows: weighted share of neighbours with another label."""
    near = space[rows] @ space.T
    near[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    cosine, index = near.topk(k)
    weight = cosine.clamp_min(0) + 1e-6
    return (weight * (labels[index] != labels[rows, None])).sum(1) / weight.sum(1)
