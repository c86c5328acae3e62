"""The confident joint. Northcutt, Jiang, Chuang, 2021 (section 3, prune by noise rate). arXiv:1911.00068"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
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
    sure_rows = likely.values >= 0
    joint = (labels * classes + likely.indices)[sure_rows].bincount(minlength=classes**2).view(classes, classes).float()
    size = labels.bincount(minlength=classes).float()
    each = off_diagonal(joint, size)
    generator = torch.Generator().manual_seed(seed_of("confident"))
    again = off_diagonal(torch.poisson(joint.expand(draws, -1, -1), generator), size).sum(1).sort().values
    suspect = torch.zeros(len(labels), dtype=torch.bool)
    for k in range(classes):
        rows = (labels == k).nonzero()[:, 0]
        order = scores.values[rows].argsort(descending=True, stable=True)
        suspect[rows[order[: round(each[k].item())]]] = True
    wrong = (each.sum().item(), again[int(0.025 * draws)].item(), again[int(0.975 * draws)].item())
    return decide(run.data, scores, suspect, p, sure, "confident", wrong)


def off_diagonal(joint: Float[Tensor, "*draws K K"], size: Float[Tensor, " K"]) -> Float[Tensor, "*draws K"]:
    """Wrong labels in each given class by the joint counts, calibrated to the class's size (equation 2)."""
    calibrated = joint / joint.sum(-1, keepdim=True).clamp_min(1) * size[:, None]
    return calibrated.sum(-1) - calibrated.diagonal(dim1=-2, dim2=-1)
