"""The confident joint. Northcutt, Jiang, Chuang, 2021 (section 3, prune by noise rate). arXiv:1911.00068"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datablame.evidence import passes
from datablame.ground.draw import seed_of
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide


def confident(run: Run, scores: Scores, sure: float = 0.6, draws: int = 200) -> Verdict:
    """As many in each class as the confident joint of held-out predictions counts off its diagonal, the most suspect first."""
    p = torch.from_numpy(np.array(passes.heldout(run)))
    labels, classes = run.data.labels, p.shape[1]
    usual = torch.stack(
        [p[labels == k, k].mean() if (labels == k).any() else torch.tensor(1.0) for k in range(classes)]
    )
    likely = torch.where(p >= usual, p, -1.0).max(1)
    cell = torch.where(likely.values >= 0, labels * classes + likely.indices, -1)
    generator = torch.Generator().manual_seed(seed_of("confident"))
    picks = torch.randint(len(labels), (draws, len(labels)), generator=generator)
    resampled = sorted(off_diagonal(cell[row], labels[row], classes).sum().item() for row in picks)
    each = off_diagonal(cell, labels, classes)
    suspect = torch.zeros(len(labels), dtype=torch.bool)
    for k in range(classes):
        rows = (labels == k).nonzero()[:, 0]
        order = scores.values[rows].argsort(descending=True, stable=True)
        suspect[rows[order[: round(each[k].item())]]] = True
    wrong = (each.sum().item(), resampled[int(0.025 * draws)], resampled[int(0.975 * draws)])
    return decide(run.data, scores, suspect, p, sure, "confident", wrong)


def off_diagonal(cell: Int[Tensor, " N"], labels: Int[Tensor, " N"], classes: int) -> Float[Tensor, " K"]:
    """Wrong labels in each given class by the joint, calibrated to the class's size (equation 2)."""
    joint = cell[cell >= 0].bincount(minlength=classes**2).view(classes, classes).float()
    size = labels.bincount(minlength=classes).float()
    calibrated = joint / joint.sum(1, keepdim=True).clamp_min(1) * size[:, None]
    return calibrated.sum(1) - calibrated.diagonal()
