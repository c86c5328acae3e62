"""The probability that each label is wrong, how many are, and what they should be.

Two opinions err to opposite sides: held-out probabilities, whose sure mistakes look like wrong
labels where the model is weak, and the labels of an image's neighbours, among features that may
have learned wrong labels by heart. Wrong labels are counted by the surest images of each
(`anchor_points`) and by a transition matrix (`noise_transition`); what the counts agree on is told,
elsewhere the number cannot be. The ranking is that of the scores, whose probabilities are
calibrated to the opinions (Platt, 1999) and to the count.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datablame.base import processes
from datablame.base.shapes import Float, Int
from datablame.data.noise_transition import SHARED, Transition, transition
from datablame.inference.neighbours import class_votes
from datablame.inference.predictions import has_features
from datablame.label_quality.anchor_points import contradicted
from datablame.label_quality.gaussian_mixture import GaussianMixture
from datablame.label_quality.out_of_sample import epoch_votes, has_heldout, heldout
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import HARDLY

EARLY, LATE = (0.05, 0.3), (0.5, 1.0)
"""Parts of the training whose predictions are heard: before wrong labels are learned, and of the
finished model."""
FEW = 8
"""Epochs below which predictions of early ones say nothing of their own."""
SPREAD = 0.13
"""Standard error of the log of a count, besides that of its size: from the sets that were tried."""
APART = 1.5
"""Factor by which counts may differ for the number to be told."""
STRONG = 0.67
"""Share of right answers that held-out predictions must claim to be believed without neighbours."""
HUMPS = 5.0
"""Spreads by which right and wrong labels stand apart in the scores for these to be counted there.
"""
ENOUGH = 50
"""Examples from which on a gap between scores is no chance."""
AGREE = 0.4
"""Share of the labels that an opinion must agree with to know anything of the classes."""
AT_MOST, UNCHECKED = 0.2, 0.05
"""Shares of the labels that are believed wrong at most where their number cannot be told, since two
opinions differ, and since a weak one stands alone."""
LIFT = 0.5
"""Weight of what the pair of classes says besides the scores."""
OVERLAP = 0.5
"""Share of the images that must have several labels for these to be counted by."""
FADE = 1 / 3
"""Weight of the late predictions in what a label should be."""


@dataclass(frozen=True, eq=False)
class Posterior:
    """`odds [N]`, the log odds that each label is wrong; `other [N,K]`, which class is right if it
    is: 0 for the given one, rows sum to 1. `estimate` is the number of wrong labels with the ends
    of its interval; the low one is 0 where it cannot be told. `unshared [N,K]` is what would be
    believed of the classes if annotators erred each by itself, where there are several.
    """

    odds: Float[Tensor, " N"]
    other: Float[Tensor, "N K"]
    estimate: tuple[float, float, float]
    unshared: Float[Tensor, "N K"] | None = None

    @property
    def p_wrong(self) -> Float[Tensor, " N"]:
        """The probability that each label is wrong."""
        return self.odds.sigmoid()

    def belief(self, labels: Int[Tensor, " N"]) -> Float[Tensor, "N K"]:
        """The probability of each class."""
        wrong = self.p_wrong[:, None]
        return (wrong * self.other).scatter(1, labels[:, None], 1 - wrong)

    def matrix(self, labels: Int[Tensor, " N"]) -> Float[Tensor, "K K"]:
        """How many examples of each given class (row) should be of each other class (column)."""
        joint = self.p_wrong[:, None] * self.other
        return torch.zeros(joint.shape[1], joint.shape[1]).index_add_(0, labels, joint)


def posterior(run: Run, scores: Scores) -> Posterior:
    """What is believed of the labels of a run. Where it has neither held-out predictions nor
    features, the scores alone tell: by a mixture of two normals.
    """
    opinions, labels = _opinions(run), run.data.labels
    early = [_log(*epoch_votes(run, *EARLY))] if run.recipe.epochs >= FEW else []
    if run.data.votes is not None:
        flat = torch.zeros(len(labels), len(run.data.classes))
        views = [[each, *early] for each in opinions.values()] or [early or [flat]]
        return _by_several(run.data.votes, labels, opinions, views)
    mixture = GaussianMixture.of(scores.values)
    apart = mixture.apart > HUMPS and len(labels) >= ENOUGH
    late, epochs = epoch_votes(run, *LATE)
    others = _apart(late / epochs, labels)
    if not opinions:
        odds = platt(scores.values, mixture.probability(scores.values))
        estimate = mixture.count(len(labels))
        return _agreed(shifted(odds, estimate[0]), others, estimate)
    found = [transition(labels[:, None], [opinion, *early]) for opinion in opinions.values()]
    count, low, high = (
        _between_humps(mixture.count(len(labels))) if apart else _estimate(opinions, found, labels)
    )
    odds = platt(scores.values, torch.stack([each.p_wrong(labels) for each in found]).mean(0))
    if low > 0:  # else the transitions are those of the model's mistakes
        odds = odds + LIFT * torch.stack([each.lift(labels) for each in found]).mean(0)
    belief = torch.stack([each.belief for each in found]).mean(0)
    other = _apart(belief, labels) * (1 - FADE) + others * FADE
    return _agreed(shifted(odds, count), other, (count, low, high))


def _by_several(
    votes: Int[Tensor, "N M"],
    labels: Int[Tensor, " N"],
    opinions: dict[str, Tensor],
    views: Sequence[Sequence[Tensor]],
) -> Posterior:
    """What the labels of several annotators and the model say together.

    Whether annotators err on the same images cannot be told from their labels: the interval begins
    with what they say if each errs by itself.
    """
    found, alone = ([transition(votes, view, shared) for view in views] for shared in (SHARED, 0.0))
    counts = [float(each.p_wrong(labels).sum()) for each in (*found, *alone)]
    wrong = torch.stack([each.p_wrong(labels) for each in found]).mean(0)
    estimate = float(wrong.sum()), *_ends(counts, len(votes))
    if opinions and float(((votes >= 0).sum(1) > 1).float().mean()) < OVERLAP:
        estimate = _estimate(opinions, found, labels)
    odds = shifted(wrong.double().logit(1e-9), estimate[0])
    belief, unshared = (torch.stack([x.belief for x in each]).mean(0) for each in (found, alone))
    known = _agreed(odds, _apart(belief, labels), estimate)
    return dataclasses.replace(known, unshared=processes.same(unshared))


def _agreed(odds: Tensor, other: Tensor, estimate: tuple[float, float, float]) -> Posterior:
    """What rank 0 believes, everywhere: what is dropped names the runs that are trained next."""
    count, low, high = processes.agree(list(estimate))
    return Posterior(processes.same(odds), processes.same(other), (count, low, high))


def _between_humps(count: tuple[float, float, float]) -> tuple[float, float, float]:
    """The weight of the upper hump, with an interval that holds misfit too."""
    factor = math.exp(SPREAD)
    return count[0], count[1] / factor, count[2] * factor


def counted(counts: Sequence[float], n: int) -> tuple[float, float, float, bool]:
    """(number of wrong labels, ends of its interval, whether it can be told) from several counts of
    it: told is what they agree on; elsewhere it lies between the least and the most.
    """
    counts = [max(count, 1e-3) for count in counts]
    least, most = min(counts), max(counts)
    low, high = _ends(counts, n)
    told = most <= APART * least or high <= HARDLY * n
    ends = counts if told else (least, most)
    return math.prod(ends) ** (1 / len(ends)), low, high, told


def _ends(counts: Sequence[float], n: int) -> tuple[float, float]:
    """The ends of an interval that holds several counts and their misfit."""
    least, most = min(counts), max(counts)
    return least / misfit(least) if least >= 1 else 0.0, min(most * misfit(most), float(n))


def misfit(count: float) -> float:
    """The factor by which a count may be off either way (95 %): by its own size, and by SPREAD."""
    return math.exp(1.96 * math.sqrt(SPREAD**2 + 1 / max(count, 1.0)))


def _estimate(
    opinions: dict[str, Tensor], found: Sequence[Transition], labels: Int[Tensor, " N"]
) -> tuple[float, float, float]:
    """(number of wrong labels, ends of its interval): the low end is 0 where it cannot be told."""
    count, low, high, agreed = counted(_counts(opinions, found, labels), len(labels))
    first = next(iter(opinions.values()))
    knows = float((first.argmax(1) == labels).float().mean()) > AGREE
    checked = len(found) > 1 or found[0].accuracy > STRONG
    if agreed and knows and "heldout" not in opinions:
        return count, 0.0, high  # neighbours alone do not count too many, but often too few
    if agreed and knows and checked:
        return count, low, high
    most = AT_MOST if len(found) > 1 else UNCHECKED
    return min(count, most * len(labels)), 0.0, high


def _counts(
    opinions: dict[str, Tensor], found: Sequence[Transition], labels: Int[Tensor, " N"]
) -> list[float]:
    """Wrong labels by the surest images of each opinion, and by the transitions of held-out
    predictions; neighbours' transitions take noise of one kind for the look of a class.
    """
    counts = [contradicted(labels, opinion) for opinion in opinions.values()]
    if "heldout" in opinions:
        counts.append(float(found[0].p_wrong(labels).sum()))
    return counts


def _opinions(run: Run) -> dict[str, Float[Tensor, "N K"]]:
    """Log probabilities of each class: held out, and by the neighbours."""
    found = {}
    if has_heldout(run):
        p = torch.from_numpy(np.array(heldout(run)))
        found["heldout"] = (p / p.sum(1, keepdim=True)).clamp_min(1e-7).log()
    if has_features(run):
        k = max(3, min(50, len(run.data) // (4 * len(run.data.classes))))  # within a class
        votes = torch.from_numpy(np.array(class_votes(run, k))).float()
        found["neighbours"] = _log(k * votes, k)
    return found


def _log(votes: Float[Tensor, "N K"], count: int) -> Float[Tensor, "N K"]:
    """Log shares of votes, with half a vote spread over the classes."""
    return ((votes + 0.5 / votes.shape[1]) / (count + 0.5)).log()


def _apart(belief: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> Float[Tensor, "N K"]:
    """Probabilities of the classes besides the given one."""
    others = (belief + 1e-3 / belief.shape[1]).scatter(1, labels[:, None], 0.0)
    return others / others.sum(1, keepdim=True)


def platt(values: Float[Tensor, " N"], wrong: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log odds `a + b values`, b at least 0, fitted to probabilities."""
    from scipy.optimize import minimize

    s, aim = values.double().numpy(), wrong.double().numpy()
    s = (s - s.mean()) / max(s.std(), 1e-12)

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        odds = line[0] + line[1] * s
        off = 1 / (1 + np.exp(-np.clip(odds, -500, 500))) - aim
        return float(np.mean(np.logaddexp(0, odds) - aim * odds)), np.array(
            [off.mean(), (off * s).mean()]
        )

    share = min(max(float(aim.mean()), 1e-6), 1 - 1e-6)
    first = [math.log(share / (1 - share)), 2.0]
    line = minimize(loss, first, jac=True, method="L-BFGS-B", bounds=[(-60, 60), (0, 60)]).x
    return torch.from_numpy(line[0] + line[1] * s).float()


def shifted(odds: Float[Tensor, " N"], total: float) -> Float[Tensor, " N"]:
    """The same log odds moved by one number, so that the probabilities sum to `total`."""
    odds, low, high = odds.double(), -100.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if (odds + middle).sigmoid().sum() > total else (middle, high)
    return (odds + low).float()
