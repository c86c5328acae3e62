"""Confident learning: held-out predictions against each class's usual confidence.

Northcutt, Jiang, Chuang, 2021. arXiv:1911.00068

When: there are held-out predictions (`--folds`, or your own), of whatever model, and some classes
are harder than others.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.label_quality.confident_joint import thresholds
from datablame.label_quality.out_of_sample import heldout
from datablame.run import Run

NEEDS = "heldout"


def confident(run: Run) -> Float[Tensor, " N"]:
    """Minus the held-out margin `log p_y - log max_{k != y} p_k`, each class's probability divided
    by its mean over examples given that class.
    """
    p, given = torch.from_numpy(np.array(heldout(run))), run.data.labels[:, None]
    score = p.clamp_min(1e-6).log() - thresholds(p, run.data.labels).clamp_min(1e-6).log()
    return score.scatter(1, given, -torch.inf).max(1).values - score.gather(1, given)[:, 0]
