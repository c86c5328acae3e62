"""The memorization matrix: where in an image its memorization comes from. Zheng & Jiang, 2022
(section 3). arXiv:2203.12171

To first order an example's memorization is `phi(x) = -s . dL(x)/dtheta` at its own features, where
`s = H^-1 dp_y/dtheta` is held fast: integrated gradients of phi from features of zero say what each
feature, and through the pooling each cell of the feature map, adds to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from datablame.base import hashing, progress
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int
from datablame.inference.integrated_gradients import Score, integrated, piecewise
from datablame.linear_probe.optimum import (
    Basis,
    Preconditioner,
    Problem,
    conjugate,
    fitted,
    through,
    with_one,
)
from datablame.network.classifier import Classifier, Prepared, unit
from datablame.run import Run

Pool = Callable[[Tensor], Tensor]

STEPS, ROOM = 50, 64


@dataclass(frozen=True, eq=False)
class CellAttribution:
    """Of some examples: first-order memorization, its parts `cells [n,h,w]` that sum to it less
    what maps of zero have, and the relative error of that sum.

    `maps [n,C,h,w]` are what the parts belong to, and `again(maps, which)` scores any other maps of
    the examples `which`.
    """

    rows: Int[Tensor, " n"]
    maps: Float[Tensor, "n C h w"]
    again: Score
    score: Float[Tensor, " n"]
    cells: Float[Tensor, "n h w"]
    error: Float[Tensor, " n"]

    @classmethod
    def of(
        cls,
        run: Run,
        rows: Int[Tensor, " n"],
        over: str = "features",
        head: tuple[Problem, Basis, Tensor] | None = None,
    ) -> CellAttribution:
        """`over=features`: cells of the encoder's last map; `over=pixels`: of the image, from a
        black one, through the whole encoder. `head`: the run's, where it is `fitted` already.
        """
        problem, basis, theta = head or fitted(run)
        with progress.stage("solve"):
            pull = _pulls(problem, basis, theta, rows)
        labels, images = run.data.labels[rows].to(theta.device), run.data.batch(rows)[0]
        if over == "pixels":
            maps, features = unit(images), run.model.features
        else:
            maps, features = pooled(run.model, images)

        def again(x: Tensor, which: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
            return _pulled(features(x), labels[which], pull[which], theta[0])

        with progress.stage("integrate"):
            slope, error = integrated(again, maps, torch.zeros_like(maps), STEPS, ROOM)
        with torch.no_grad():
            score = piecewise(again, maps, torch.arange(len(rows), device=maps.device), ROOM)
        return cls(rows, maps, again, score, (slope * maps).sum(1), error)

    @torch.no_grad()
    def masked(self, share: float, seed: int | None = None) -> Float[Tensor, " n"]:
        """How much of the score is lost, as a share of it, when the highest cells are set to zero;
        with a seed an equal number at random.
        """
        lot = cells = self.cells.flatten(1)
        places = torch.arange(cells.shape[1], device=cells.device)
        if seed is not None:
            lot = hashing.uniform(
                self.rows.to(cells.device)[:, None] * len(places) + places, "mask", seed
            )
        gone = lot.topk(max(1, round(share * len(places))), 1).indices
        kept = torch.ones_like(cells).scatter_(1, gone, 0.0).view_as(self.cells)[:, None]
        left = piecewise(
            self.again, self.maps * kept, torch.arange(len(cells), device=cells.device), ROOM
        )
        return (self.score - left) / self.score.abs().clamp_min(1e-12)


def _pulls(
    problem: Problem, basis: Basis, theta: Float[Tensor, "1 K d"], rows: Int[Tensor, " n"]
) -> Float[Tensor, "n K d"]:
    """`H^-1 dp_y/dtheta / N` of some examples, by conjugate gradients on all of them side by
    side.
    """
    found = []
    for part in rows.split(ROOM):
        x = problem.at(part)
        p = through(x, theta)[:, 0].softmax(1)
        given = one_hot(problem.labels[part].to(p.device), problem.classes).to(p)
        target = (
            ((p * given).sum(1, keepdim=True) * (given - p))[:, :, None]
            * x[:, None]
            / len(problem.labels)
        )
        several = problem.but(keep=torch.ones(len(part), len(problem.labels), dtype=torch.bool))
        wide = theta.expand(len(part), -1, -1)
        ease = Preconditioner(several, basis, wide)
        found.append(conjugate(lambda v, s=several, t=wide: s.bend(t, v), target, ease, 60, 1e-8))
    return torch.cat(found)


def _pulled(
    x: Float[Tensor, "b D"],
    labels: Int[Tensor, " b"],
    pull: Float[Tensor, "b K d"],
    theta: Float[Tensor, "K d"],
) -> Float[Tensor, " b"]:
    """phi: minus the product of s with the gradient of the loss at these features."""
    x = with_one(x)
    wrong = one_hot(labels, len(theta)) - (x @ theta.T).softmax(1)
    return ((wrong[:, :, None] * pull).sum(1) * x).sum(1)


POOLS: dict[str, Pool] = {
    "mean": lambda maps: maps.mean((2, 3)),
    "maximum": lambda maps: maps.amax((2, 3)),
}


def pooled(model: Classifier | Prepared, images: Tensor) -> tuple[Float[Tensor, "n D h w"], Pool]:
    """(the encoder's last map, what makes features of it: the mean of its cells, or their maximum).

    Raises InputError for an encoder whose features are neither of a map.
    """
    seen: list[Tensor] = []

    def hook(_: object, __: object, output: object) -> None:
        if (
            isinstance(output, Tensor)
            and output.ndim == 4
            and output.shape[1] == model.dim
            and output[0, 0].numel() > 1
        ):
            seen.append(output)

    handles = [part.register_forward_hook(hook) for part in model.modules()]
    features, maps = [], []
    try:
        with torch.no_grad():
            for part in images.split(ROOM):
                seen.clear()
                features.append(model.features(part))
                maps += seen[-1:]
    finally:
        for handle in handles:
            handle.remove()
    if maps:
        whole, made = torch.cat(maps), torch.cat(features)
        for pool in POOLS.values():
            if torch.allclose(pool(whole), made, rtol=1e-3, atol=1e-4):
                return whole, pool
    raise InputError(
        "this encoder's features are no mean and no maximum of a map; look at pixels "
        "instead: --over pixels"
    )
