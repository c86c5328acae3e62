"""Right classes behind the labels of one annotator or several: P(labels | x) = sum_k P(k | x)
prod_m T_m[k, label_m], both parts found at once.

Expectation maximisation over the right class (Dawid, Skene, 1979) with a model's opinion in place
of a prior (Raykar et al., 2010) and a transition matrix T for each annotator (Patrini et al., 2017,
arXiv:1609.03683).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datablame.base import hashing
from datablame.base.shapes import Float, Int

ROUNDS, STEPS = 40, 6
"""Of expectation and maximisation at most, and of the optimiser in each."""
START = 0.1
"""Share of wrong labels that the search begins with."""
PULL = 2.0
"""Examples a class by which each row of T is drawn to even noise."""
FEW = 10
"""Labels of all annotators that the share of wrong ones of each is drawn by."""
SHARED = 0.2
"""Correlation of the mistakes of annotators, who err on the same images (Kish, 1965): chosen on
labels of people."""
FLAT = 1e-3
"""Penalty on the square of each class's bias."""
SAMPLE = 20_000
"""Examples that T and the weights of the opinions are found on; the rest is only judged."""


@dataclass(frozen=True, eq=False)
class Transition:
    """What is believed of each example's class, given its labels.

    `votes [N,M]` are the labels, -1 where an annotator gave none; `belief [N,K]` probabilities of
    the right class, `opinion [N,K]` their logarithms without the labels, `matrices [M,K,K]` each
    annotator's T, `shared` the correlation of their mistakes.
    """

    votes: Int[Tensor, "N M"]
    belief: Float[Tensor, "N K"]
    opinion: Float[Tensor, "N K"]
    matrices: Float[Tensor, "M K K"]
    shared: float

    @property
    def accuracy(self) -> float:
        """How often the opinion alone would name the right class, by its own account."""
        return float(self.opinion.amax(1).exp().mean())

    def p_wrong(self, labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The probability that each of these labels is wrong."""
        return 1 - self.belief.gather(1, labels[:, None])[:, 0]

    def lift(self, labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """How much more suspect each label is by its pair of classes than by noise that is even
        over the classes (in log odds).
        """
        opinion = self.opinion.double()
        joint = opinion + likelihood(self.matrices, self.votes, self.shared)
        even = opinion + likelihood(self._even, self.votes, self.shared)
        return (_odds(joint, labels) - _odds(even, labels)).float()

    @property
    def _even(self) -> Float[Tensor, "M K K"]:
        """The same amount of noise of each annotator, even over the classes."""
        right = self.matrices.double().diagonal(dim1=1, dim2=2).mean(1).tolist()
        classes = self.matrices.shape[-1]
        return torch.stack([_noise(1 - each, classes) for each in right])


def transition(
    votes: Int[Tensor, "N M"], opinions: Sequence[Float[Tensor, "N K"]], shared: float = SHARED
) -> Transition:
    """Find each annotator's T, and a weight and a bias a class for opinions that are log
    probabilities.
    """
    views = torch.stack([each.double() for each in opinions])
    rows = hashing.some(len(votes), SAMPLE, "transition") if len(votes) > SAMPLE else slice(None)
    matrices, weights, bias = _found(votes[rows], views[:, rows], shared)
    opinion = _opinion(views, weights, bias)
    belief = (opinion + likelihood(matrices, votes, shared)).softmax(1)
    return Transition(votes, belief.float(), opinion.float(), matrices.float(), shared)


def likelihood(
    matrices: Float[Tensor, "M K K"], votes: Int[Tensor, "N M"], shared: float
) -> Float[Tensor, "N K"]:
    """Log probability of the labels that the annotators gave each example, under each class."""
    out = torch.zeros(len(votes), matrices.shape[-1], dtype=torch.float64)
    for matrix, given in zip(matrices.double(), votes.T, strict=True):
        log = torch.cat([matrix.clamp_min(1e-12).log(), out.new_zeros(len(matrix), 1)], 1)
        out += log[:, given].T  # the last column stands for no label
    count = (votes >= 0).sum(1, keepdim=True).double()
    return out * effective(count, shared) / count.clamp_min(1)


def effective(count: Float[Tensor, "..."], shared: float = SHARED) -> Float[Tensor, "..."]:
    """What so many labels of one image count for, as labels of annotators who err by themselves."""
    return count / (1 + shared * (count - 1).clamp_min(0))


def _found(
    votes: Int[Tensor, "n M"], views: Float[Tensor, "V n K"], shared: float
) -> tuple[Float[Tensor, "M K K"], Float[Tensor, " V"], Float[Tensor, " K"]]:
    many, classes = int((votes >= 0).sum()), views.shape[2]
    weights = torch.full((len(views),), 1 / len(views), dtype=torch.float64)
    bias = torch.zeros(classes, dtype=torch.float64)
    matrices = _noise(START, classes).expand(votes.shape[1], -1, -1)
    before = torch.inf
    for _ in range(ROUNDS):
        log = _opinion(views, weights, bias) + likelihood(matrices, votes, shared)
        belief = log.softmax(1)
        counts = torch.stack([confusion(belief, given) for given in votes.T])
        size = counts.sum((1, 2))
        wrong = size - counts.diagonal(dim1=1, dim2=2).sum(1)
        total = float(wrong.sum())
        share = (wrong + FEW * total / many) / (size + FEW)
        matrices = counts + PULL * classes * torch.stack(
            [_noise(each, classes) for each in share.tolist()]
        )
        matrices /= matrices.sum(2, keepdim=True)
        weights, bias = _fitted(views, belief, weights, bias)
        if abs(total - before) < 1e-4 * many:
            break
        before = total
    return matrices, weights, bias


def confusion(belief: Float[Tensor, "n K"], given: Int[Tensor, " n"]) -> Float[Tensor, "K K"]:
    """How many examples of each class (row) an annotator gave each label (column)."""
    rows = given >= 0
    counts = belief.new_zeros(belief.shape[1], belief.shape[1])
    return counts.index_add_(1, given[rows], belief[rows].T)


def _fitted(views: Tensor, belief: Tensor, weights: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and biases of the opinions that are nearer to the belief: a few steps of L-BFGS."""
    from scipy.optimize import minimize

    many = len(weights)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        each, level = torch.from_numpy(values).split([many, len(bias)])
        log = _opinion(views, each, level)
        value = -(belief * log).sum(1).mean() + FLAT * level.square().mean()
        slope = (log.exp() - belief) / len(belief)
        slopes = [torch.einsum("nk,vnk->v", slope, views), slope.sum(0)]
        slopes[1] = slopes[1] + 2 * FLAT * level / len(level)
        return float(value), torch.cat(slopes).numpy()

    first = torch.cat([weights, bias]).numpy()
    found = minimize(loss, first, jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    return torch.from_numpy(found.x[:many].copy()), torch.from_numpy(found.x[many:].copy())


def _opinion(views: Tensor, weights: Tensor, bias: Tensor) -> Float[Tensor, "n K"]:
    return (torch.einsum("v,vnk->nk", weights, views) + bias).log_softmax(1)


def _noise(share: float, classes: int) -> Float[Tensor, "K K"]:
    """T of noise that is even over the classes."""
    matrix = torch.full((classes, classes), share / (classes - 1), dtype=torch.float64)
    return matrix.fill_diagonal_(1 - share)


def _odds(joint: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log odds that a label is wrong, of the log of any multiple of the right class's
    probabilities.
    """
    own = joint.gather(1, labels[:, None])[:, 0]
    others = joint.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return others - own
