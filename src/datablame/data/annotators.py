"""Labels of several annotators: what they agree on.

Dawid, Skene, 1979 (maximum likelihood estimation of observer error-rates using the EM algorithm).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base.errors import InputError
from datablame.base.shapes import Int
from datablame.data.noise_transition import transition
from datablame.dataset import Dataset


def consensus(votes: Int[Tensor, "N M"], classes: int) -> Int[Tensor, " N"]:
    """The likeliest class of each example among those that its annotators gave, by their labels
    alone.
    """
    found = transition(votes, [torch.zeros(len(votes), classes)]).belief
    given = torch.zeros_like(found).scatter_add_(1, votes.clamp_min(0), (votes >= 0).float())
    return (found + 1).where(given > 0, 0.0).argmax(1)


def annotated(data: Dataset, votes: Int[Tensor, "N M"], annotators: Sequence[str]) -> Dataset:
    """A set by the labels of several annotators: its own labels are their consensus.

    Raises InputError for an annotator without labels, for images that nobody labelled, and for
    numbers beyond the classes.
    """
    if empty := [name for name, given in zip(annotators, votes.T, strict=True) if given.max() < 0]:
        raise InputError(f"annotator {empty[0]} gave no label of {data.source}; leave it out")
    if (nobody := (votes < 0).all(1)).any():
        first = data.name(int(nobody.int().argmax()))
        raise InputError(
            f"no annotator labelled {first} ({int(nobody.sum()):,} such images of {data.source}); "
            "leave these out"
        )
    if int(votes.max()) >= len(data.classes):
        raise InputError(
            f"the annotators' labels go up to {int(votes.max())}, and {data.source} has "
            f"{len(data.classes)} classes"
        )
    votes = votes.clamp_min(-1)
    labels = consensus(votes, len(data.classes))
    return dataclasses.replace(data, labels=labels, annotators=tuple(annotators), votes=votes)


def by_several(labels: Any) -> tuple[Int[Tensor, "N M"], list[str]] | None:
    """(labels of several annotators, -1 where one gave none; who these are) of an array `[N,M]`, or
    of a frame with a column each; None for labels of one kind, `[N]`.

    Raises InputError for fractions and words, and for one annotator's labels `[N,1]`.
    """
    array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if array.ndim != 2:
        return None
    if array.shape[1] < 2:
        raise InputError(f"labels [N,{array.shape[1]}] are of one annotator; give them as [N]")
    names = [str(name) for name in getattr(labels, "columns", range(1, array.shape[1] + 1))]
    try:
        numbers = array.astype(float)
    except (TypeError, ValueError):
        numbers = np.full(1, 0.5)
    numbers = np.where(np.isnan(numbers), -1, numbers)
    if not np.isfinite(numbers).all() or (numbers % 1).any():
        raise InputError("labels [N,M] of several annotators are whole numbers, -1 where none")
    return torch.from_numpy(numbers.astype("int64")), names
