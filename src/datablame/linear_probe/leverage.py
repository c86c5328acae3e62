"""What a softmax-linear head would say of each of its training examples had it not been trained on
it: one Newton step of the problem without the example, its removal exact. Rad & Maleki, 2020
(approximate leave-one-out). arXiv:1801.10243

With H the Hessian at the optimum, the leverage of an example is the K x K matrix L = (I (x) x)^T
H^-1 (I (x) x) / N; without it the logits are z + L (I - J L)^-1 r, where r = p - e_y and J =
diag(p) - p p^T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import torch
from torch import Tensor

from datablame.base import devices, processes, progress
from datablame.base.errors import at_least
from datablame.base.shapes import Float, Int
from datablame.linear_probe.optimum import Basis, Problem, fitted, through
from datablame.run import Run

SIDE = 20_480
"""Rows of the largest Hessian that is inverted whole: 1.7 GB in single precision, and as much again
for the inverse."""
SOLVED = 128
"""Up to this number of classes every example has K x K matrices; beyond them all is EK-FAC by
default, and (I - J L)^-1 a series."""
TERMS = 8
"""Powers of J L in that series."""


@dataclass(frozen=True, eq=False)
class Leverage:
    """H^-1 in turned coordinates: exact within the first `directions` of the features, EK-FAC in
    those that remain.

    Coordinates are products of `side [K,c]`, c = K - 1 directions among the classes (H is blind to
    the same change of all logits), and `turn [d,d]`, the eigenvectors of the mean of x x^T, the
    largest first. `energy` is the share of the features' squared length that is exact.
    """

    problem: Problem
    theta: Float[Tensor, "1 K d"]
    side: Float[Tensor, "K c"]
    turn: Float[Tensor, "d d"]
    inverse: Float[Tensor, "ck ck"]
    rest: Float[Tensor, "c m"]
    energy: float

    @classmethod
    def of(
        cls,
        problem: Problem,
        theta: Float[Tensor, "1 K d"],
        basis: Basis,
        directions: int | None = None,
    ) -> Leverage:
        """Of the optimum theta; None for as many directions as SIDE holds, beyond SOLVED classes
        for none.
        """
        dim, free = theta.shape[2], problem.classes - 1
        held = SIDE // free if problem.classes <= SOLVED else 0
        k = min(dim, held if directions is None else directions)
        turn = basis.turn.flip(1).contiguous()
        side = across(problem, theta)
        bias = turn[-1]
        block = torch.zeros(free * k, free * k, device=theta.device)
        rest = torch.zeros(free, dim - k, device=theta.device)
        count = len(problem.labels)
        for _, x in progress.track(problem.blocks(), problem.parts, "curvature", "blocks"):
            t, p = x @ turn, through(x, theta)[:, 0].softmax(1)
            if k:
                bend = _curved(p, side)
                for i, j in combinations_with_replacement(range(free), 2):
                    block[i * k : (i + 1) * k, j * k : (j + 1) * k].addmm_(
                        (t[:, :k] * bend[:, i, j, None]).T, t[:, :k]
                    )
            rest += (p @ side.square() - (p @ side).square()).T @ t[:, k:].square()
        block = processes.total(block).div_(count)
        decay = problem.weight_decay * (
            torch.eye(k, device=bias.device) - bias[:k, None] * bias[:k]
        )
        for i in range(free):
            block[i * k : (i + 1) * k, i * k : (i + 1) * k] += decay
        rest = processes.total(rest) / count + problem.weight_decay * (1 - bias[k:].square())
        size = basis.size.flip(0)
        return cls(
            problem,
            theta,
            side,
            turn,
            devices.capable(inverted, block),
            1 / rest.clamp_min(1e-12),
            float(size[:k].sum() / size.sum()),
        )

    def blocks(
        self,
    ) -> Iterator[tuple[Int[Tensor, " b"], Float[Tensor, "b K"], Float[Tensor, "b c *c"]]]:
        """(rows, logits, leverage) of this process; of the leverage its diagonal where all is
        EK-FAC.
        """
        free = self.side.shape[1]
        k = len(self.inverse) // free
        for rows, x in progress.track(
            self.problem.blocks(), self.problem.parts, "leaving out", "blocks"
        ):
            t = x @ self.turn
            lever = t[:, k:].square() @ self.rest.T
            if k:
                lever = lever.diag_embed()
                for i, j in combinations_with_replacement(range(free), 2):
                    part = self.inverse[i * k : (i + 1) * k, j * k : (j + 1) * k]
                    exact = ((t[:, :k] @ part) * t[:, :k]).sum(1)
                    lever[:, i, j] += exact
                    lever[:, j, i] = lever[:, i, j]
            yield rows, through(x, self.theta)[:, 0], lever / len(self.problem.labels)

    def left_out(self) -> Float[Tensor, "N 4"]:
        """Of each example the probability of its label, the same without it, the loss without it in
        nats, and g^T H^-1 g, its self-influence.
        """
        labels, found = (
            self.problem.labels,
            torch.zeros(len(self.problem.labels), 4, device=self.theta.device),
        )
        for rows, logits, lever in self.blocks():
            p, given = logits.softmax(1), labels[rows].to(logits.device)[:, None]
            wrong = p @ self.side - self.side[given[:, 0]]
            step = wrong
            if self.problem.classes <= SOLVED:
                square = lever if lever.ndim == 3 else lever.diag_embed()
                eye = torch.eye(len(self.side.T), device=p.device)
                step = torch.linalg.solve(eye - _curved(p, self.side) @ square, wrong)
            else:
                for _ in range(TERMS):
                    moved = _times(lever, step) @ self.side.T
                    step = wrong + (p * (moved - (p * moved).sum(1, keepdim=True))) @ self.side
            without = (logits + _times(lever, step) @ self.side.T).log_softmax(1).gather(1, given)
            pull = (wrong * _times(lever, wrong)).sum(1, keepdim=True) * len(labels)
            found[rows.to(found.device)] = torch.cat(
                [p.gather(1, given), without.exp(), -without, pull], 1
            )
        return processes.total(found)


def helmert(classes: int) -> Float[Tensor, "K c"]:
    """An orthonormal basis of the vectors whose sum is zero."""
    rows = torch.tril(torch.ones(classes - 1, classes))
    count = torch.arange(1, classes).float()
    rows[torch.arange(classes - 1), torch.arange(1, classes)] = -count
    return (rows / (count * (count + 1)).sqrt()[:, None]).T


def across(problem: Problem, theta: Float[Tensor, "1 K d"]) -> Float[Tensor, "K c"]:
    """The eigenvectors of the mean J that are orthogonal to (1, ..., 1)."""
    side = helmert(problem.classes).to(theta.device)
    total = theta.new_zeros(problem.classes, problem.classes)
    for _, x in problem.blocks():
        p = through(x, theta)[:, 0].softmax(1)
        total += p.sum(0).diag() - p.T @ p
    return side @ devices.eigenvectors(side.T @ processes.total(total) @ side)[1]


def _curved(p: Float[Tensor, "b K"], side: Float[Tensor, "K c"]) -> Float[Tensor, "b c c"]:
    """J = diag(p) - p p^T of each example, in the coordinates of `side`."""
    mean = p @ side
    return (p[:, None] * side.T) @ side - mean[:, :, None] * mean[:, None]


def _times(lever: Float[Tensor, "b c *c"], v: Float[Tensor, "b c"]) -> Float[Tensor, "b c"]:
    """The product of each example's leverage, or of its diagonal, with a vector."""
    return torch.einsum("bij,bj->bi", lever, v) if lever.ndim == 3 else lever * v


def inverted(block: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The inverse of a symmetric matrix of which the upper blocks are given; damped, and said,
    where it is singular.
    """
    if not len(block):
        return block
    damping, mean = 0.0, float(block.diagonal().mean())
    while True:
        factor, failed = torch.linalg.cholesky_ex(block, upper=True)
        if not failed and math.isfinite(float(factor.diagonal().min())):
            break
        more = max(1e-6 * mean, 9 * damping)
        damping += more
        block.diagonal().add_(more)
    if damping:
        progress.say(
            f"the Hessian of the head is singular; {damping:.1e} was added to its diagonal "
            f"(its mean is {mean:.1e}): a larger --weight-decay spares that"
        )
    return torch.cholesky_inverse(factor, upper=True)


def left_out(run: Run, directions: int | None = None) -> Float[Tensor, "N 4"]:
    """`Leverage.left_out` of a linear head fitted to its optimum on the features of a run, with the
    recipe's decay; kept in the run's folder.
    """

    at_least(0, directions=directions)

    def make() -> np.ndarray:
        problem, basis, theta = fitted(run)
        with progress.stage("leave one out"):
            lever = Leverage.of(problem, theta, basis, directions)
            if lever.energy < 1:
                progress.say(
                    f"{lever.energy:.1%} of the features' squared length is treated "
                    "exactly, the rest by EK-FAC"
                )
            return lever.left_out().cpu().numpy()

    return torch.from_numpy(
        run.keep(f"left_out-{'all' if directions is None else directions}", make).copy()
    )


def as_published(run: Run) -> Float[Tensor, " N"]:
    """Memorization as the first code has it: `p_y g^T (H + 50)^-1 (g + decay w)`, not divided by N;
    its damping of 5e-3 at a scale of 1e4 stands above all of H, and the decay's gradient counts as
    the example's own."""
    problem, basis, theta = fitted(run)
    lever = Leverage.of(problem, theta, basis, 0)
    damped = 1 / (1 / lever.rest + 50)
    pulled = problem.pull(theta)[0]
    leak = lever.side @ ((lever.side.T @ pulled @ lever.turn) * damped) @ lever.turn.T
    found = torch.zeros(len(problem.labels), device=theta.device)
    for rows, x in problem.blocks():
        p, given = through(x, theta)[:, 0].softmax(1), problem.labels[rows].to(x.device)
        wrong = p - torch.nn.functional.one_hot(given, problem.classes)
        own = ((x @ lever.turn).square() @ damped.T * (wrong @ lever.side).square()).sum(1)
        found[rows.to(found.device)] = p.gather(1, given[:, None])[:, 0] * (
            own + (wrong @ leak * x).sum(1)
        )
    return processes.total(found).cpu()
