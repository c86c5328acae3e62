"""Integrated gradients: how much each number of an input adds to a score.

Sundararajan, Taly, Yan, 2017. arXiv:1703.01365
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from datablame.base.shapes import Float, Int

Score = Callable[[Tensor, Tensor], Tensor]
"""(inputs [b, ...], which example each is [b]) -> a score each [b]."""


def integrated(
    score: Score,
    inputs: Float[Tensor, "n ..."],
    baseline: Float[Tensor, "n ..."],
    steps: int = 50,
    room: int = 64,
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, " n"]]:
    """(the mean slope on the straight way from the baseline, relative error of completeness).

    The slope times `inputs - baseline` is the attribution; its sum should be what the score gains
    on the way. `room` points of ways are looked at together, which bounds memory and changes
    nothing else (where it is too much all the same, half as many); points are the middles of
    `steps` equal parts.
    """
    while True:
        try:
            return _integral(score, inputs, baseline, steps, room)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if room == 1 or not _starved(error):
                raise
            room = max(1, room // 2)


def _starved(error: Exception) -> bool:
    """Does an error say that there is not enough memory?

    A CPU's allocator has no kind of its own.
    """
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _integral(
    score: Score,
    inputs: Float[Tensor, "n ..."],
    baseline: Float[Tensor, "n ..."],
    steps: int,
    room: int,
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, " n"]]:
    slope, count = torch.zeros_like(inputs), len(inputs)
    parts = (torch.arange(steps, device=inputs.device) + 0.5) / steps
    for pairs in torch.arange(count * steps, device=inputs.device).split(room):
        which, part = pairs // steps, parts[pairs % steps]
        start = baseline[which]
        points = start + part.view(-1, *[1] * (inputs.ndim - 1)) * (inputs[which] - start)
        with torch.enable_grad():
            points.requires_grad_()
            (grown,) = torch.autograd.grad(score(points, which).sum(), points)
        slope.index_add_(0, which, grown / steps)
    every = torch.arange(count, device=inputs.device)
    with torch.no_grad():
        gained = piecewise(score, inputs, every, room) - piecewise(score, baseline, every, room)
    sums = (slope * (inputs - baseline)).flatten(1).sum(1)
    return slope, (sums - gained).abs() / gained.abs().clamp_min(1e-12)


def piecewise(
    score: Score, inputs: Tensor, which: Int[Tensor, " n"], room: int
) -> Float[Tensor, " n"]:
    return torch.cat(
        [score(x, each) for x, each in zip(inputs.split(room), which.split(room), strict=True)]
    )
