"""Right classes behind the given labels: P(given | x) = sum_k P(k | x) T[k, given], both parts
found at once.

Expectation maximisation over the right class (Dawid, Skene, 1979) with a model's opinion in place
of a prior (Raykar et al., 2010) and one transition matrix T (Patrini et al., 2017,
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
FLAT = 1e-3
"""Penalty on the square of each class's bias."""
SAMPLE = 20_000
"""Examples that T and the weights of the opinions are found on; the rest is only judged."""


@dataclass(frozen=True, eq=False)
class Transition:
    """What is believed of each example's class, given its label.

    `belief [N,K]` are probabilities of the right class, `lift [N]` how much more suspect the label
    is by its pair of classes than by noise that is even over the classes (in log odds), `matrix
    [K,K]` T, and `accuracy` how often the opinion alone would name the right class, by its own
    account.
    """

    belief: Float[Tensor, "N K"]
    lift: Float[Tensor, " N"]
    matrix: Float[Tensor, "K K"]
    accuracy: float

    def p_wrong(self, labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
        """The probability that each label is wrong."""
        return 1 - self.belief.gather(1, labels[:, None])[:, 0]


def transition(labels: Int[Tensor, " N"], opinions: Sequence[Float[Tensor, "N K"]]) -> Transition:
    """Find T, and a weight and a bias a class for opinions that are log probabilities."""
    views = torch.stack([each.double() for each in opinions])
    rows = hashing.some(len(labels), SAMPLE, "transition") if len(labels) > SAMPLE else slice(None)
    matrix, weights, bias = _found(labels[rows], views[:, rows])
    opinion = _opinion(views, weights, bias)
    joint = opinion + matrix[:, labels].T.clamp_min(1e-12).log()
    even = opinion + _even(matrix)[:, labels].T.log()
    lift = _odds(joint, labels) - _odds(even, labels)
    accuracy = float(opinion.exp().amax(1).mean())
    return Transition(joint.softmax(1).float(), lift.float(), matrix.float(), accuracy)


def _found(
    labels: Int[Tensor, " n"], views: Float[Tensor, "V n K"]
) -> tuple[Float[Tensor, "K K"], Float[Tensor, " V"], Float[Tensor, " K"]]:
    count, classes = views.shape[1:]
    weights = torch.full((len(views),), 1 / len(views), dtype=torch.float64)
    bias = torch.zeros(classes, dtype=torch.float64)
    matrix = _noise(START, classes)
    before = torch.inf
    for _ in range(ROUNDS):
        joint = _opinion(views, weights, bias) + matrix[:, labels].T.clamp_min(1e-12).log()
        belief = joint.softmax(1)
        counts = torch.zeros_like(matrix).index_add_(1, labels, belief.T)
        wrong = float(count - counts.diagonal().sum())
        matrix = counts + PULL * classes * _noise(wrong / count, classes)
        matrix /= matrix.sum(1, keepdim=True)
        weights, bias = _fitted(views, belief, weights, bias)
        if abs(wrong - before) < 1e-4 * count:
            break
        before = wrong
    return matrix, weights, bias


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


def _even(matrix: Float[Tensor, "K K"]) -> Float[Tensor, "K K"]:
    """The same amount of noise, even over the classes."""
    return _noise(float(1 - matrix.diagonal().mean()), len(matrix)).clamp_min(1e-12)


def _odds(joint: Float[Tensor, "N K"], labels: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Log odds that a label is wrong, of the log of any multiple of the right class's
    probabilities.
    """
    own = joint.gather(1, labels[:, None])[:, 0]
    others = joint.scatter(1, labels[:, None], -torch.inf).logsumexp(1)
    return others - own
