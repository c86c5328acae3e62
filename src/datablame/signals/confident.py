"""Confident learning: held-out predictions against each class's usual confidence. Northcutt, Jiang, Chuang, 2021. arXiv:1911.00068"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datablame.evidence import passes
from datablame.evidence.joint import usual
from datablame.run import Run


def confident(run: Run) -> Float[Tensor, " N"]:
    """Minus the held-out margin `log p_y - log max_{k != y} p_k`, each class's probability divided by its mean over examples given that class."""
    p, given = torch.from_numpy(np.array(passes.heldout(run))), run.data.labels[:, None]
    score = p.clamp_min(1e-6).log() - usual(p, run.data.labels).clamp_min(1e-6).log()
    return score.scatter(1, given, -torch.inf).max(1).values - score.gather(1, given)[:, 0]
