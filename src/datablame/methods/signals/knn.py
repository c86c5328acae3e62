"""Label agreement among nearest neighbours in feature space.

Bahri, Jiang, Gupta, 2020 (deep k-NN). arXiv:2004.12289; Jorge et al., 2024 (WANN).
arXiv:2408.14358

Formula: `sum_j w_nj [y_j != y_n] / sum_j w_nj`.
When: there are features of a good encoder, even without any training of your own (`datablame audit
features.npz`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.inference.neighbours import class_votes
from datablame.run import Run

PROBABILITY, NEEDS, WHOLE = True, "features", True


def knn(run: Run, k: int = 50, trust: int = 0) -> Float[Tensor, " N"]:
    """Share of the `k` nearest other examples (cosine of the encoder's features) whose label
    differs, the nearer counting more; with `trust`, in so many rounds, those that are reliable.
    """
    votes = torch.from_numpy(np.array(class_votes(run, k, trust))).float()
    return 1 - votes.gather(1, run.data.labels[:, None])[:, 0]
