"""Distance to the nearest neighbours: what is unlike all else.

Ramaswamy, Rastogi, Shim, 2000. Efficient algorithms for mining outliers from large data sets;
Kuan, Mueller, 2022. Back to the basics: revisiting out-of-distribution detection baselines.
arXiv:2207.03061

Formula: `mean_j 1 - cos(f_n, f_j)`.
When: pictures of something else altogether are looked for, whatever their label.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.inference.neighbours import distances
from datablame.run import Run

NEEDS, WHOLE = "features", True


def outlier(run: Run, k: int = 10) -> Float[Tensor, " N"]:
    """The mean cosine distance of the `k` nearest other examples in the encoder's features."""
    return distances(run, k)
