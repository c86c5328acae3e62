"""Learning-rate schedules: the share of training done, in [0, 1), to a factor of the peak rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from datablame.base.errors import InputError, unknown
from datablame.base.methods import cast, parse


def onecycle(done: float, peak: float = 0.25) -> float:
    """Cosine up to the peak, then cosine down to nothing. Smith, Topin, 2018. arXiv:1708.07120"""
    part = done / peak if done < peak else (1 - done) / (1 - peak)
    return (
        0.04 + 0.96 * (1 - math.cos(math.pi * part)) / 2
        if done < peak
        else (1 - math.cos(math.pi * part)) / 2
    )


def triangular(done: float, peak: float = 0.2) -> float:
    """Straight up to the peak and straight down to nothing: the schedule of kronfluence's CIFAR-10
    example.
    """
    return done / peak if done < peak else (1 - done) / (1 - peak)


def cosine(done: float, end: float = 0.0) -> float:
    """Half a cosine from the peak to a share of it. Loshchilov, Hutter, 2017. arXiv:1608.03983"""
    return end + (1 - end) * (1 + math.cos(math.pi * done)) / 2


def step(done: float, at: str = "0.5+0.75", by: float = 0.1) -> float:
    """Times `by` at each share of training in `at`."""
    try:
        shares = [float(share) for share in at.split("+")]
    except ValueError:
        shares = [-1.0]
    if not all(0 <= share <= 1 for share in shares):
        raise InputError(
            f"the schedule's steps are at shares of training such as 0.5+0.75; got {at}"
        )
    return by ** sum(done >= share for share in shares)


def constant(done: float) -> float:
    """The same rate throughout."""
    return 1.0


SCHEDULES: dict[str, Callable[..., float]] = {
    f.__name__: f for f in (onecycle, triangular, cosine, step, constant)
}


def schedule(spec: str, warmup: float = 0.0) -> Callable[[float], float]:
    """The schedule that a spec names (`step,at=0.5+0.75`), rising from nothing in the first share
    `warmup` of training (Goyal et al., 2017. arXiv:1706.02677). Raises InputError for an unknown
    one.
    """
    name, options = parse(spec)
    if name not in SCHEDULES:
        raise unknown("schedule", name, SCHEDULES)
    rate = partial(SCHEDULES[name], **cast(SCHEDULES[name], name, options))
    return (lambda done: min(1.0, done / warmup) * rate(done)) if warmup else rate
