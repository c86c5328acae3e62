"""Easy, hard and need review, from the curves of data parameters.

Saxena, Tuzel, DeCoste, 2019, as used for enriching data sets.

Formula: `hard if P(upper component | end of the curve) > 1/2`.
When: the run was trained with `--trainer data_parameters`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from datablame.base import methods
from datablame.base.errors import InputError, unknown
from datablame.base.shapes import Int
from datablame.dynamics.temperature_curves import shape
from datablame.label_quality.gaussian_mixture import GaussianMixture
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import ASK, DROP, KEEP, Verdict, least

RULES = ("adaptive", "rows", "map")
REVIEW = True
"""What it asks about needs review; it is not merely hard."""


def trajectory(run: Run, scores: Scores, rule: str = "adaptive", doubt: float = 1.5) -> Verdict:
    """Easy (kept), hard or an outlier (dropped), and need review (asked about), of a run that was
    trained with --trainer data_parameters.

    adaptive: two Gaussians of one spread are fitted to where the curves end, relative to their
    class. An example is hard if it ends rather in the upper one. Need review have those who were
    there and cooled, and those who end within `doubt` spreads of a hump of it. The rest is easy.
    rows: hard ends above 2, review was above 1.5 and ends at 1 at most. map: hard ends above 1.6;
    review was above 1.6, moved by more than 0.5 and ends below 1. Both read temperatures as they
    are, not relative to their class, so they need those of examples alone (level=instance).
    """
    if not 0 <= doubt < math.inf:
        raise InputError(f"doubt is a number of spreads, from 0; got {doubt}")
    if rule not in RULES:
        raise unknown("rule of trajectory", rule, RULES)
    act, estimate = _adaptive(run, doubt) if rule == "adaptive" else _literal(run, rule)
    by = f"trajectory,doubt={doubt:g}" if rule == "adaptive" else f"trajectory,rule={rule}"
    none = torch.full((len(act),), -1)
    return Verdict(
        act,
        none,
        torch.zeros(len(act)),
        scores.values,
        by,
        least(scores, act == DROP),
        estimate,
        scores.name,
    )


def _adaptive(run: Run, doubt: float) -> tuple[Int[Tensor, " N"], tuple[float, float, float]]:
    curve = shape(run)
    mixture = GaussianMixture.of(curve.end)
    act = torch.full((len(curve.end),), KEEP)
    act[
        mixture.probability(torch.maximum(curve.peak, curve.end + doubt * mixture.spread)) > 0.5
    ] = ASK
    act[mixture.probability(curve.end) > 0.5] = DROP
    return act, mixture.count(len(act))


def _literal(run: Run, rule: str) -> tuple[Int[Tensor, " N"], tuple[float, float, float]]:
    trace = run.trace
    if (level := methods.parse(run.recipe.trainer)[1].get("level", "instance")) != "instance":
        raise InputError(
            f"rule={rule} has thresholds for temperatures that begin at 1; with level={level} "
            "those of examples are what is left beside their class's: use rule=adaptive"
        )
    last = trace.at("temperature", trace.epochs - 1)
    most = trace.reduce("temperature", lambda values: values.amax(0))
    moved = most - trace.reduce("temperature", lambda values: values.amin(0))
    hard, review = (
        (last > 2.0, (most > 1.5) & (last <= 1.0))
        if rule == "rows"
        else (last > 1.6, (most > 1.6) & (moved > 0.5) & (last < 1.0))
    )
    act = torch.full((len(last),), KEEP)
    act[hard] = DROP
    act[review] = ASK
    count = float(hard.sum())
    return act, (count, count, count)
