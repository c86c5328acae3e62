"""Corruption: which examples a noise strikes, how many of them, and where the truth is kept."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from datablame.base import hashing
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset


def flipped(
    data: Dataset,
    wrong: Int[Tensor, " N"],
    amount: float,
    seed: int,
    exact: bool,
    weight: Float[Tensor, " N"] | None = None,
) -> Dataset:
    """`data` with a share `amount` of the labels that `wrong` would change replaced by it, the
    truth kept.

    With `exact`, exactly the rounded number; else each example by itself with that probability.
    Which labels are flipped depends only on seed and row, with probability increasing in `weight`.
    Raises InputError for an amount outside [0, 1], and for labels of several annotators.
    """
    if data.annotators:
        raise InputError(
            f"noise is planted in one label an image, and {data.source} has those of "
            f"{len(data.annotators)} annotators; name one of them with --label"
        )
    if not 0 <= amount <= 1:
        raise InputError(f"an amount of noise is a share between 0 and 1; got {amount}")
    open_to = wrong != data.labels
    lot = hashing.uniform(torch.arange(len(data)), "struck", seed)
    if weight is not None:
        lot = (
            lot * weight.mean() / weight if not exact else 1 - (1 - lot).pow(weight.mean() / weight)
        )
    if exact:
        lot[~open_to] = 2.0
        struck = torch.zeros(len(data), dtype=torch.bool)
        struck[lot.argsort(stable=True)[: round(amount * int(open_to.sum()))]] = True
    else:
        struck = open_to & (lot < amount)
    truth = data.labels if data.truth is None else data.truth
    noisy = data.relabel(torch.where(struck, wrong, data.labels), truth)
    return dataclasses.replace(noisy, flipped=int(struck.sum()))
