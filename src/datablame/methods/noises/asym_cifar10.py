"""Asymmetric noise between look-alikes of CIFAR-10. Patrini et al., 2017. arXiv:1609.03683

Formula: `P(k' | k) = amount of the five pairs`.
When: a published comparison on CIFAR-10 is repeated.
"""

from __future__ import annotations

import torch

from datablame.base.errors import InputError
from datablame.data.label_flips import flipped
from datablame.dataset import Dataset

MISTAKEN = {9: 1, 2: 0, 4: 7, 3: 5, 5: 3}
"""Truck for automobile, bird for airplane, deer for horse, cat and dog for each other."""


def asym_cifar10(data: Dataset, amount: float = 0.2, seed: int = 0, exact: bool = True) -> Dataset:
    """Truck -> automobile, bird -> airplane, deer -> horse, cat <-> dog; `amount` is the share
    within these five classes.
    """
    if len(data.classes) != 10:
        raise InputError(
            f"asym_cifar10 is defined for CIFAR-10's ten classes; {data.source} has "
            f"{len(data.classes)}"
        )
    to = torch.tensor([MISTAKEN.get(k, k) for k in range(10)])
    return flipped(data, to[data.labels], amount, seed, exact)
