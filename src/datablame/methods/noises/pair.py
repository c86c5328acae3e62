"""Pair-flip label noise: class k is mistaken for class k + 1.

Han et al., 2018 (Co-teaching). arXiv:1804.06872

Formula: `P(k + 1 | k) = amount`.
When: classes are mistaken for one certain other one: more than half of a class's labels wrong is
beyond telling.
"""

from __future__ import annotations

from datablame.data.label_flips import flipped
from datablame.dataset import Dataset


def pair(data: Dataset, amount: float = 0.2, seed: int = 0, exact: bool = True) -> Dataset:
    """Wrong labels are the next class, the last class's the first."""
    return flipped(data, (data.labels + 1) % len(data.classes), amount, seed, exact)
