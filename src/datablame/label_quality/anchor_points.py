"""Anchor points: the images whose class an opinion is surest of tell how often labels are wrong.

Liu, Tao, 2016 (arXiv:1411.7718); Patrini et al., 2017 (arXiv:1609.03683, section 4.1).
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.hashing import turns
from datablame.base.shapes import Float, Int

SHARE, LEAST = 0.2, 10
"""Of the images that an opinion gives to a class, those that it is surest of; and how many at
least.
"""


def contradicted(labels: Int[Tensor, " N"], opinion: Float[Tensor, "N K"]) -> float:
    """How many labels are wrong if each class's are as often as among its surest images.

    Too many where the opinion is wrong though sure, too few where people err on what is hard.
    """
    sure, best = opinion.max(1)
    order = sure.argsort(descending=True, stable=True)
    place = turns(best[order])
    size = best.bincount(minlength=opinion.shape[1])
    asked = (SHARE * size).long().clamp_min(LEAST).minimum(size)
    among = place < asked[best[order]]
    rows = order[among]
    wrong = (labels[rows] != best[rows]).float()
    share = best.new_zeros(len(size)).float().index_add_(0, best[rows], wrong) / asked.clamp_min(1)
    return float((share * size).sum())
