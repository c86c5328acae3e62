"""The confident joint of given and likely labels.

Northcutt, Jiang, Chuang, 2021 (equations 1 and 2). arXiv:1911.00068
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base.hashing import seed_of
from datablame.base.shapes import Float
from datablame.label_quality.out_of_sample import heldout
from datablame.run import Run

DRAWS = 200


def wrong_by_class(run: Run) -> tuple[Float[Tensor, " K"], tuple[float, float, float]]:
    """How many labels of each given class are wrong, and their sum with its 95 % interval (Poisson
    bootstrap).

    An example counts for the likeliest class among those whose held-out probability reaches that
    class's usual one, the mean over the examples given it. A weak model makes these numbers too
    large.
    """
    p, labels = torch.from_numpy(np.array(heldout(run))), run.data.labels
    classes = p.shape[1]
    likely = torch.where(p >= thresholds(p, labels) - 1e-6, p, -1.0).max(1)
    counted = likely.values >= 0
    cell = (labels * classes + likely.indices)[counted]
    joint = cell.bincount(minlength=classes**2).view(classes, classes).float()
    size = labels.bincount(minlength=classes).float()
    each = off_diagonal(joint, size)
    generator = torch.Generator().manual_seed(seed_of("joint"))
    drawn = (
        off_diagonal(torch.poisson(joint.expand(DRAWS, -1, -1), generator), size)
        .sum(1)
        .sort()
        .values
    )
    return each, (
        float(each.sum()),
        float(drawn[int(0.025 * DRAWS)]),
        float(drawn[int(0.975 * DRAWS)]),
    )


def thresholds(p: Float[Tensor, "N K"], labels: Tensor) -> Float[Tensor, " K"]:
    """Mean probability of each class over the examples given it; 1 for a class that no example is
    given.
    """
    count = labels.bincount(minlength=p.shape[1])
    own = p.gather(1, labels[:, None])[:, 0].double()
    total = torch.zeros(p.shape[1], dtype=torch.float64).index_add(0, labels, own)
    return torch.where(count > 0, total / count.clamp_min(1), 1.0).float()


def off_diagonal(
    joint: Float[Tensor, "*draws K K"], size: Float[Tensor, " K"]
) -> Float[Tensor, "*draws K"]:
    """Wrong labels in each given class by the joint counts, calibrated to the class's size."""
    calibrated = joint / joint.sum(-1, keepdim=True).clamp_min(1) * size[:, None]
    return calibrated.sum(-1) - calibrated.diagonal(dim1=-2, dim2=-1)
