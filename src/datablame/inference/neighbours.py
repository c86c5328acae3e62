"""What the labels of an example's nearest neighbours say of its class.

Bahri, Jiang, Gupta, 2020 (deep k-NN). arXiv:2004.12289
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.base import files, processes, progress
from datablame.base.errors import at_least
from datablame.base.shapes import Float
from datablame.inference.features import features
from datablame.inference.folds import spread, trained
from datablame.run import Run

BLOCK = 1 << 26
"""Cosines held at a time."""


def class_votes(run: Run, k: int = 50) -> np.ndarray:
    """float16 `[N,K]`, kept: the share of each class among the labels of the `k` nearest other
    examples (cosine of the encoder's features), the nearer counting more; of a cross-fitted run the
    mean over the models that trained on the example.
    """
    at_least(1, k=k)
    shape = (len(run.data), len(run.data.classes))
    path = run.path / f"neighbours-{k}.npy"
    return files.keep(path, lambda: _votes(run, k).half().numpy(), shape, "f", True)


def _votes(run: Run, k: int) -> Float[Tensor, "N K"]:
    if run.cross_fitted:
        every = trained(run)
        parts = [torch.from_numpy(np.array(class_votes(fold.run, k))).float() for fold in every]
        return spread(run, parts, every)
    kept = torch.from_numpy(features(run).astype("float32"))
    with progress.stage("neighbours"):
        space = normalize(kept.to(processes.device()))
        labels = run.data.labels.to(space.device)
        k = min(k, len(space) - 1)
        blocks = torch.arange(len(space), device=space.device).split(max(1, BLOCK // len(space)))
        return torch.cat(
            [
                votes_of(space, labels, rows, k, len(run.data.classes))
                for rows in progress.track(blocks, len(blocks), "neighbours", "blocks")
            ]
        ).cpu()


def votes_of(
    space: Float[Tensor, "N D"], labels: Tensor, rows: Tensor, k: int, classes: int
) -> Float[Tensor, "B K"]:
    """For one block of rows: the weighted share of each class among the neighbours."""
    near = space[rows] @ space.T
    near[torch.arange(len(rows), device=rows.device), rows] = -torch.inf
    cosine, index = near.topk(k)
    weight = cosine.clamp_min(0) + 1e-6
    votes = torch.zeros(len(rows), classes, device=space.device)
    return votes.scatter_add_(1, labels[index], weight) / weight.sum(1, keepdim=True)
