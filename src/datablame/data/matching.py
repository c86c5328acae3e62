"""Sets other than the training set: their classes and sizes must be its
own.
"""

from __future__ import annotations

import dataclasses

import torch

from datablame.base.errors import InputError
from datablame.dataset import Dataset


def matched(test: Dataset, data: Dataset, what: str = "test images") -> Dataset:
    """The test set with its classes numbered as the training set's.

    Raises InputError where classes or sizes do not fit.
    """
    if other := sorted(set(test.classes) - set(data.classes)):
        raise InputError(
            f"the {what} have classes that the training set has not: {', '.join(other[:5])}"
        )
    if test.shape != data.shape:
        raise InputError(
            f"{what} are {test.shape}, training images {data.shape}; bring both to one "
            "size with --size"
        )
    number = torch.tensor([data.classes.index(name) for name in test.classes])
    return dataclasses.replace(
        test, classes=data.classes, labels=number[test.labels], mean=data.mean, std=data.std
    )
