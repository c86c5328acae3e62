"""The memorization matrix: where in an image its memorization comes from. Zheng & Jiang, 2022 (section 3). arXiv:2203.12171

To first order an example's memorization is `phi(x) = -s . dL(x)/dtheta` at its own features, where `s = H^-1 dp_y/dtheta` is held fast: integrated
gradients of phi from features of zero say what each feature, and through the pooling each cell of the feature map, adds to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datablame.classifier import Classifier, Prepared
from datablame.evidence import passes
from datablame.evidence.heatmap import integrated, piecewise
from datablame.evidence.optimum import Basis, Eased, Problem, conjugate, optimum, through
from datablame.ground import clock
from datablame.ground.errors import InputError
from datablame.run import Run

STEPS, ROOM = 50, 64


@dataclass(frozen=True, eq=False)
class Matrix:
    """Of some examples: first-order memorization, its parts `cells [n,h,w]` that sum to it less what features of zero have, and the relative error
    of that sum. `pull [n,K,d]` is s, by which any features of theirs are scored."""

    run: Run
    rows: Int[Tensor, " n"]
    theta: Float[Tensor, "K d"]
    pull: Float[Tensor, "n K d"]
    score: Float[Tensor, " n"]
    cells: Float[Tensor, "n h w"]
    error: Float[Tensor, " n"]

    @classmethod
    def of(cls, run: Run, rows: Int[Tensor, " n"], over: str = "features") -> Matrix:
        """`over=features`: cells of the encoder's last map; `over=pixels`: of the image, from a black one, through the whole encoder."""
        problem = Problem.of(run, passes.features(run))
        with clock.stage("fit the head"):
            basis = Basis.of(problem)
            theta = optimum(problem, basis=basis)
        with clock.stage("solve"):
            pull = pulls(problem, basis, theta, rows)
        labels, theta = run.data.labels[rows].to(theta.device), theta[0]

        def phi(x: Tensor, which: Tensor) -> Tensor:
            return pulled(x, labels[which], pull[which], theta)

        images = run.data.batch(rows)[0]
        model = run.model
        if over == "pixels":
            pixels = images.float() / 255
            seen = lambda x, which: phi(model.features(x), which)  # noqa: E731
            with clock.stage("integrate"):
                slope, error = integrated(seen, pixels, torch.zeros_like(pixels), STEPS, ROOM)
            score, cells = (
                piecewise(seen, pixels, torch.arange(len(rows), device=pixels.device), ROOM),
                (slope * pixels).sum(1),
            )
        else:
            maps, share = pooled(model, images)
            x = (maps * share).sum((2, 3))
            with clock.stage("integrate"):
                slope, error = integrated(phi, x, torch.zeros_like(x), STEPS, 1 << 12)
            score = phi(x, torch.arange(len(rows), device=x.device))
            cells = (slope[:, :, None, None] * maps * share).sum(1)
        return cls(run, rows, theta, pull, score.detach(), cells.detach(), error)


def pulls(
    problem: Problem, basis: Basis, theta: Float[Tensor, "1 K d"], rows: Int[Tensor, " n"]
) -> Float[Tensor, "n K d"]:
    """`H^-1 dp_y/dtheta / N` of some examples, by conjugate gradients on all of them side by side."""
    found = []
    for part in rows.split(ROOM):
        x = torch.from_numpy(problem.features[part.numpy()].astype("float32")).to(theta.device)
        x = torch.cat([x, x.new_ones(len(x), 1)], 1)
        p = through(x, theta)[:, 0].softmax(1)
        given = torch.nn.functional.one_hot(problem.labels[part], problem.classes).to(p)
        target = ((p * given).sum(1, keepdim=True) * (given - p))[:, :, None] * x[:, None] / len(problem.labels)
        several = problem.but(keep=torch.ones(len(part), len(problem.labels), dtype=torch.bool))
        wide = theta.expand(len(part), -1, -1)
        ease = Eased(several, basis, wide)
        found.append(conjugate(lambda v, s=several, t=wide: s.bend(t, v), target, ease, 60, 1e-8))
    return torch.cat(found)


def pulled(
    x: Float[Tensor, "b D"], labels: Int[Tensor, " b"], pull: Float[Tensor, "b K d"], theta: Float[Tensor, "K d"]
) -> Float[Tensor, " b"]:
    """phi: minus the product of s with the gradient of the loss at these features."""
    x = torch.cat([x, x.new_ones(len(x), 1)], 1)
    given = torch.nn.functional.one_hot(labels, len(theta)).to(x)
    return (((given - (x @ theta.T).softmax(1))[:, :, None] * pull).sum(1) * x).sum(1)


def pooled(model: Classifier | Prepared, images: Tensor) -> tuple[Float[Tensor, "n D h w"], Float[Tensor, "n D h w"]]:
    """(the encoder's last map, the share of each cell in the feature): a mean, or the cell of the highest response.

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
    found = []
    try:
        with torch.no_grad():
            for part in images.split(ROOM):
                seen.clear()
                features = model.features(part)
                found.append((features, seen[-1] if seen else None))
    finally:
        for handle in handles:
            handle.remove()
    features, maps = torch.cat([f for f, _ in found]), [m for _, m in found if m is not None]
    if maps:
        whole = torch.cat(maps)
        if torch.allclose(whole.mean((2, 3)), features, rtol=1e-3, atol=1e-4):
            return whole, torch.full_like(whole, 1 / whole[0, 0].numel())
        highest = whole.flatten(2).argmax(2, keepdim=True)
        if torch.allclose(whole.flatten(2).gather(2, highest)[:, :, 0], features, rtol=1e-3, atol=1e-4):
            return whole, torch.zeros_like(whole).flatten(2).scatter_(2, highest, 1.0).view_as(whole)
    raise InputError(
        "this encoder's features are no mean and no maximum of a map; look at pixels instead: --over pixels"
    )


def masked(matrix: Matrix, share: float, seed: int | None = None) -> Float[Tensor, " n"]:
    """How much of the score is lost, as a share of it, when the highest cells are set to zero; with a seed as many at random."""
    from datablame.ground import draw

    cells = matrix.cells.flatten(1)
    count = max(1, round(share * cells.shape[1]))
    lot = cells
    if seed is not None:
        place = matrix.rows.to(cells.device)[:, None] * cells.shape[1] + torch.arange(
            cells.shape[1], device=cells.device
        )
        lot = draw.uniform(place, "mask", seed)
    gone: Bool[Tensor, "n c"] = torch.zeros_like(cells, dtype=torch.bool).scatter_(1, lot.topk(count, 1).indices, True)
    kept = (~gone).view_as(matrix.cells)[:, None]
    run, labels = matrix.run, matrix.run.data.labels[matrix.rows].to(cells.device)
    images = run.data.batch(matrix.rows)[0]
    with torch.no_grad():
        if matrix.cells.shape[1:] == images.shape[2:]:
            x = torch.cat([run.model.features(part) for part in (images.float() / 255 * kept).split(ROOM)])
        else:
            maps, share_of = pooled(run.model, images)
            maps = maps * kept
            average = bool((share_of == share_of[0, 0, 0, 0]).all())
            x = maps.mean((2, 3)) if average else maps.amax((2, 3))
        left = pulled(x, labels, matrix.pull, matrix.theta)
    return (matrix.score - left) / matrix.score.abs().clamp_min(1e-12)
