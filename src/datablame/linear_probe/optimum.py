"""The optimum of a softmax-linear head on fixed features, by Newton's method; many sets of examples
at once. The Hessian is sum J_n (x) x_n x_n^T. Boehning, 1992. Annals of the Institute of
Statistical Mathematics 44; Martens, 2010 (truncated Newton)"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base import devices, processes, progress
from datablame.base.errors import InputError
from datablame.base.shapes import Bool, Float, Int
from datablame.inference.features import Encoded, features, gathered
from datablame.run import Run

BLOCK = 4096
"""Rows of features that are looked at together."""
HELD = 2 << 30
"""Bytes of features that are held at most, so that each pass need not read them again."""
WEAK = 1e-6
"""Decay where a recipe has none."""
ENOUGH = 1e-5
"""Norm of the gradient, relative to that at zero, at which a fit ends."""


@dataclass(frozen=True, eq=False)
class Problem:
    """The mean cross-entropy of the kept examples plus half the decay times the squared weights,
    biases free; R sets of kept examples.

    `features [N,D]` may be memory-mapped in half precision: they pass in blocks, each process
    taking its part of one, with a one for the bias. `held [N,d]` are the same in single precision
    on the device, where they fit.
    """

    features: np.ndarray | Encoded
    labels: Int[Tensor, " N"]
    classes: int
    weight_decay: float
    keep: Bool[Tensor, "R N"] | None = None
    held: Float[Tensor, "N d"] | None = None

    @classmethod
    def of(cls, run: Run, features: np.ndarray | Encoded) -> Problem:
        """A linear head on features of a run's training images, with its recipe's decay; without
        any, separable sets have no optimum.

        Raises InputError for a set of one class.
        """
        if len(run.data.classes) < 2:
            raise InputError("a head tells classes apart; all images are of one class here")
        problem = cls(
            features, run.data.labels, len(run.data.classes), run.recipe.weight_decay or WEAK
        )
        size = 4 * features.shape[0] * (features.shape[1] + 1)
        if size > min(HELD, devices.free() // 8):
            return problem
        return problem.but(held=problem.at(torch.arange(len(run.data))))

    def but(self, **changes: Any) -> Problem:
        return dataclasses.replace(self, **changes)

    @property
    def sets(self) -> int:
        return 1 if self.keep is None else len(self.keep)

    @property
    def block(self) -> int:
        """Rows that are looked at together; fewer where there are so many classes that a matrix of
        them for each row would fill memory.
        """
        return max(32, min(BLOCK, (1 << 27) // self.classes**2))

    @property
    def parts(self) -> int:
        return -(-len(self.labels) // self.block)

    @property
    def sizes(self) -> Float[Tensor, " R"]:
        """Examples of each set."""
        if self.keep is None:
            return torch.full((1,), float(len(self.labels)), device=devices.device())
        return self.keep.sum(1).float().to(devices.device())

    def blocks(self) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, "b d"]]]:
        """(rows, their features with a one) of this process, in single precision on the device."""
        for index in torch.arange(len(self.labels)).split(self.block):
            rows = processes.shard(index)
            if self.held is None or not len(rows):
                yield rows, self.at(rows)
            else:  # rows follow each other: a view
                yield rows, self.held[int(rows[0]) : int(rows[-1]) + 1]

    def at(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        if self.held is not None:
            return self.held[rows.to(self.held.device)]
        return with_one(gathered(self.features, rows))

    def weights(self, rows: Int[Tensor, " b"]) -> Float[Tensor, "b R 1"]:
        """What each example counts for in each set."""
        share = (1 / self.sizes).expand(len(rows), -1)
        if self.keep is not None:
            share = share * self.keep[:, rows].T.to(share.device)
        return share[:, :, None]

    def pull(self, theta: Float[Tensor, "R K d"]) -> Float[Tensor, "R K d"]:
        """The decay's part of the gradient; also its product with the Hessian."""
        pulled = self.weight_decay * theta
        pulled[:, :, -1] = 0
        return pulled

    def gradient(
        self, theta: Float[Tensor, "R K d"]
    ) -> tuple[Float[Tensor, " R"], Float[Tensor, "R K d"]]:
        """(objective, gradient) of every set."""
        loss, slope = theta.new_zeros(self.sets), theta.new_zeros(theta.shape)
        for rows, x in self.blocks():
            logits, labels, share = (
                through(x, theta),
                self.labels[rows].to(x.device),
                self.weights(rows),
            )
            chosen = labels[:, None, None].expand(-1, self.sets, 1)
            logs = logits.log_softmax(2)
            loss -= (share[:, :, 0] * logs.gather(2, chosen)[:, :, 0]).sum(0)
            slope += _back(x, share * (logs.exp().scatter_add_(2, chosen, -torch.ones_like(share))))
        loss, slope = processes.total(loss), processes.total(slope)
        return loss + 0.5 * (theta * self.pull(theta)).sum((1, 2)), slope + self.pull(theta)

    def bend(
        self, theta: Float[Tensor, "R K d"], way: Float[Tensor, "R K d"]
    ) -> Float[Tensor, "R K d"]:
        """The Hessian at theta times a direction."""
        bent = torch.zeros_like(theta)
        for rows, x in self.blocks():
            p, t = through(x, theta).softmax(2), through(x, way)
            bent += _back(x, self.weights(rows) * p * (t - (p * t).sum(2, keepdim=True)))
        return processes.total(bent) + self.pull(way)


def with_one(x: Float[Tensor, "b D"]) -> Float[Tensor, "b d"]:
    """Features with a one for the bias: d = D + 1."""
    return torch.cat([x, x.new_ones(len(x), 1)], 1)


def theta_of(head: torch.nn.Linear) -> Float[Tensor, "K d"]:
    """Weights and, last, biases."""
    return torch.cat([head.weight, head.bias[:, None]], 1).detach()


def through(x: Float[Tensor, "b d"], theta: Float[Tensor, "R K d"]) -> Float[Tensor, "b R K"]:
    return (x @ theta.flatten(0, 1).T).unflatten(1, theta.shape[:2])


def _back(x: Float[Tensor, "b d"], u: Float[Tensor, "b R K"]) -> Float[Tensor, "R K d"]:
    return (u.flatten(1).T @ x).unflatten(0, u.shape[1:])


@dataclass(frozen=True, eq=False)
class Basis:
    """Eigenvectors `turn [d,d]` and values `size [d]` of the mean of x x^T: what all sets share of
    their curvature.
    """

    turn: Float[Tensor, "d d"]
    size: Float[Tensor, " d"]

    @classmethod
    def of(cls, problem: Problem) -> Basis:
        dim = problem.features.shape[1] + 1
        square = torch.zeros(dim, dim, device=devices.device())
        for _, x in problem.blocks():
            square.addmm_(x.T, x)
        size, turn = devices.eigenvectors(processes.total(square) / len(problem.labels))
        return cls(turn, size.clamp_min(0))


class Preconditioner:
    """K-FAC as a preconditioner: the mean of J_n of each set, times the shared basis; the null
    direction (an equal shift of all logits) is projected out.
    """

    def __init__(self, problem: Problem, basis: Basis, theta: Float[Tensor, "R K d"]):
        mean = theta.new_zeros(problem.sets, problem.classes, problem.classes)
        for rows, x in problem.blocks():
            p, share = through(x, theta).softmax(2), problem.weights(rows)
            mean += torch.diag_embed((share * p).sum(0)) - torch.einsum(
                "brk,brl->rkl", share * p, p
            )
        size, self.side = devices.eigenvectors(processes.total(mean))
        self.turn = basis.turn
        flat = size.clamp_min(0)[:, :, None] * basis.size
        self.size = flat + problem.weight_decay + 1e-6 * flat.amax((1, 2), keepdim=True)

    def __call__(self, v: Float[Tensor, "R K d"]) -> Float[Tensor, "R K d"]:
        eased = self.side @ ((self.side.mT @ v @ self.turn) / self.size) @ self.turn.T
        return eased - eased.mean(1, keepdim=True)


def _newton(
    problem: Problem, basis: Basis, theta: Float[Tensor, "R K d"], rounds: int = 20
) -> Float[Tensor, "R K d"]:
    """One Newton step from theta: conjugate gradients for its direction, halved for a set until its
    objective falls.
    """
    before, slope = problem.gradient(theta)
    ease = Preconditioner(problem, basis, theta)
    way = conjugate(lambda v: problem.bend(theta, v), slope, ease, rounds)
    fall = (slope * way).sum((1, 2))
    length = theta.new_ones(problem.sets)
    worse = torch.ones_like(length, dtype=torch.bool)
    for _ in range(10):
        new = theta - length[:, None, None] * way
        worse = ~(problem.gradient(new)[0] <= before - 1e-4 * length * fall + 1e-7 * before.abs())
        if not worse.any():
            return new
        length[worse] /= 2
    return theta - torch.where(worse, 0.0, length)[:, None, None] * way


def conjugate(
    multiply: Callable[[Tensor], Tensor],
    target: Float[Tensor, "R K d"],
    ease: Preconditioner,
    rounds: int,
    small: float = 1e-4,
) -> Float[Tensor, "R K d"]:
    """Preconditioned conjugate gradients on all sets side by side, until the squared residual is
    `small` relative to its start.
    """
    x, residual = torch.zeros_like(target), target.clone()
    eased = ease(residual)
    way, size = eased, (residual * eased).sum((1, 2))
    first = size.clone()
    for _ in range(rounds):
        bent = multiply(way)
        curve = (way * bent).sum((1, 2))
        going = (size > small * first) & (curve > 0)
        step = torch.where(going, size / curve, 0.0)[:, None, None]
        x, residual = x + step * way, residual - step * bent
        eased = ease(residual)
        new = (residual * eased).sum((1, 2))
        way = eased + torch.where(going, new / size, 0.0)[:, None, None] * way
        size = torch.where(going, new, size)
        if not going.any():
            break
    return x


def optimum(
    problem: Problem,
    theta: Float[Tensor, "R K d"] | None = None,
    basis: Basis | None = None,
    steps: int = 30,
) -> Float[Tensor, "R K d"]:
    """Weights and, last, biases: once the gradient is below ENOUGH or the objective stops
    decreasing.
    """
    dim = problem.features.shape[1] + 1
    zero = torch.zeros(problem.sets, problem.classes, dim, device=devices.device())
    start = problem.gradient(zero)[1].norm(dim=(1, 2))
    theta = zero if theta is None else theta - theta.mean(1, keepdim=True)
    basis = basis or Basis.of(problem)
    ticker = progress.Ticker(0, "fitting", "Newton steps")
    for _ in range(steps):
        new = _newton(problem, basis, theta)
        if torch.equal(new, theta):
            break
        theta = new
        left = float((problem.gradient(theta)[1].norm(dim=(1, 2)) / start).max())
        ticker.tick(f"gradient {left:.0e} of its start, ends at {ENOUGH:.0e}")
        if left <= ENOUGH:
            break
    ticker.close()
    return theta


def fitted(run: Run) -> tuple[Problem, Basis, Float[Tensor, "1 K d"]]:
    """The problem of a linear head on the features of a run, and its optimum."""
    problem = Problem.of(run, features(run))
    with progress.stage("fit the head"):
        basis = Basis.of(problem)
        return problem, basis, optimum(problem, basis=basis)
