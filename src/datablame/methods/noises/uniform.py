"""Symmetric label noise: a wrong label is any other class with equal probability.

Formula: `P(k' | k) = amount / (K - 1)`.
When: a first trial: the easiest to find.
"""

from __future__ import annotations

import torch

from datablame.base import hashing
from datablame.data.label_flips import flipped
from datablame.dataset import Dataset


def uniform(data: Dataset, amount: float = 0.2, seed: int = 0, exact: bool = True) -> Dataset:
    """Wrong labels drawn evenly from all other classes."""
    others = len(data.classes) - 1
    step = 1 + (hashing.uniform(torch.arange(len(data)), "class", seed) * others).long().clamp_max(
        others - 1
    )
    return flipped(data, (data.labels + step) % len(data.classes), amount, seed, exact)
