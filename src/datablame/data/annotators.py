"""Labels of several annotators: what they agree on.

Dawid, Skene, 1979 (maximum likelihood estimation of observer error-rates using the EM algorithm).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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


def labelled(
    make: Callable[[Any], Dataset], labels: Any, annotators: Sequence[str] = ()
) -> Dataset:
    """The set that `make` makes of labels, of one annotator `[N]` or of several `[N,M]`, -1 or NaN
    where one gave none: an array, or a frame with a column each, which names them.

    Raises InputError for fractions and words, and as `annotated` does.
    """
    array = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if array.ndim != 2:
        return make(labels)
    if array.shape[1] < 2:
        raise InputError(f"labels [N,{array.shape[1]}] are of one annotator; give them as [N]")
    try:
        numbers = array.astype(float)
    except (TypeError, ValueError):
        numbers = np.full(1, 0.5)
    numbers = np.where(np.isnan(numbers), -1, numbers)
    if not np.isfinite(numbers).all() or (numbers % 1).any():
        raise InputError("labels [N,M] of several annotators are whole numbers, -1 where none")
    votes = torch.from_numpy(numbers.astype("int64"))
    data = make(votes.amax(1).clamp_min(0))
    names = annotators or getattr(labels, "columns", range(1, votes.shape[1] + 1))
    return annotated(data, votes[data.rows], [str(name) for name in names]).checked()
