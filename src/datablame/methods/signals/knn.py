"""Label agreement among nearest neighbours in feature space.

Bahri, Jiang, Gupta, 2020 (deep k-NN). arXiv:2004.12289
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.inference.neighbours import class_votes
from datablame.run import Run

PROBABILITY, NEEDS = True, "features"


def knn(run: Run, k: int = 50) -> Float[Tensor, " N"]:
    """Share of the `k` nearest other examples (cosine of the encoder's features) whose label
    differs, the nearer counting more.
    """
    votes = torch.from_numpy(np.array(class_votes(run, k))).float()
    return 1 - votes.gather(1, run.data.labels[:, None])[:, 0]
