"""Which classes are given where others are predicted. Confusions of look-alikes go both ways and
stay unsure; wrong labels that follow the class go one way; wrong labels drawn by lot go everywhere.
So the counts of all pairs of classes tell how to read one example's disagreement."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datablame.base.shapes import Float, Int
from datablame.run import Run

SEEN = 5
"""Disagreements of a pair of classes below which its direction counts for little."""


@dataclass(frozen=True, eq=False)
class Confusion:
    """`counts[i, j]`: examples in which class i is predicted where j is given; `rivals`: the other
    class that is predicted most for each.
    """

    labels: Int[Tensor, " N"]
    rivals: Int[Tensor, " N"]
    counts: Float[Tensor, "K K"]

    @property
    def mean(self) -> float:
        """Disagreements of a mean pair of classes."""
        classes = len(self.counts)
        return float(self.counts.sum() - self.counts.trace()) / max(1, classes * classes - classes)

    def lift(self) -> Float[Tensor, " N"]:
        """Log of how much oftener than a mean pair of classes the given label goes with its
        rival.
        """
        return ((self.counts[self.rivals, self.labels] + 1) / (self.mean + 1)).log()

    def asymmetry(self) -> Float[Tensor, " N"]:
        """From -1 to 1: is the rival predicted where this label is given oftener than the other way
        round?
        """
        there, back = self.counts[self.rivals, self.labels], self.counts[self.labels, self.rivals]
        return (there - back) / (there + back + SEEN)

    def skew(self) -> Float[Tensor, " N"]:
        """From 0 to 1, one number for the whole set: the share of disagreements that has no match
        the other way round.
        """
        both = self.counts + self.counts.T
        pairs = (both.sum() - both.trace()).clamp_min(1)
        return ((self.counts - self.counts.T).abs().sum() / pairs).expand(len(self.labels))

    def surplus(self) -> float:
        """The skew beyond what as many coins would show, of whole counts: about 0 where pairs go
        both ways alike, 1 where all go one way.
        """
        both = self.counts + self.counts.T
        pairs = both.triu(1)
        half = (pairs / 2).floor()
        log = (
            torch.lgamma(pairs + 1)
            - torch.lgamma(half + 1)
            - torch.lgamma(pairs - half + 1)
            - pairs * math.log(2)
        )
        probability = (
            2 * (pairs - half) * log.exp()
        ).sum()  # of n coins the mean difference of heads and tails
        one_way = (self.counts - self.counts.T).abs().triu(1).sum()
        return float((one_way - probability) / (pairs.sum() - probability).clamp_min(1))


def confusions(run: Run) -> tuple[Confusion, Confusion]:
    """Over all epochs, in examples of a mean epoch; and over the sure disagreements alone: examples
    whose label most epochs of the second half contradict, the half of them with the lower mean
    margin there, each counted once at its rival."""
    prediction, labels, classes = run.trace["prediction"], run.data.labels, len(run.data.classes)
    half = len(prediction) // 2
    rivals, counts = torch.empty_like(labels), torch.zeros(classes * classes)
    against, margin = torch.empty(len(labels), dtype=torch.bool), torch.empty(len(labels))
    for rows in torch.arange(len(labels)).split(max(1, (1 << 25) // max(classes, len(prediction)))):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        seen, given = torch.from_numpy(prediction[:, part].astype("int64")), labels[part]
        votes = torch.zeros(len(rows), classes).scatter_add_(1, seen.T, torch.ones(seen.T.shape))
        rivals[part] = votes.scatter(1, given[:, None], -1.0).argmax(1)
        counts += (seen * classes + given).flatten().bincount(minlength=classes**2)
        against[part] = (seen[half:] != given).float().mean(0) > 0.5
        margin[part] = torch.from_numpy(run.trace["margin"][half:, part].astype("float32")).mean(0)
    sure = against & (margin <= margin[against].median()) if against.any() else against
    once = (rivals * classes + labels)[sure].bincount(minlength=classes**2).float()
    return (
        Confusion(labels, rivals, counts.view(classes, classes) / len(prediction)),
        Confusion(labels, rivals, once.view(classes, classes)),
    )


PAIRS: dict[str, Callable[[Confusion, Confusion], Tensor]] = {
    "lift": lambda every, sure: every.lift(),
    "asymmetry": lambda every, sure: every.asymmetry(),
    "skew": lambda every, sure: every.skew(),
    "sure_lift": lambda every, sure: sure.lift(),
    "sure_asymmetry": lambda every, sure: sure.asymmetry(),
    "sure_skew": lambda every, sure: sure.skew(),
}
"""Views of the pair of the given label and its rival class, one number an example for all times."""
