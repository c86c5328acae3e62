"""A mixture of right and wrong labels in the scores, after Arazo et al., 2019. arXiv:1904.11238"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datablame.evidence import passes
from datablame.evidence.joint import wrong_by_class
from datablame.evidence.opinion import opinion
from datablame.ground.draw import seed_of
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide

BINS = 400
ROUNDS = 300
STARTS = (0.05, 0.2, 0.4)
"""Weights of the upper component from which the fit begins; the likeliest end is taken."""


def mixture(run: Run, scores: Scores, sure: float = 0.8, draws: int = 200) -> Verdict:
    """Two normal components of one spread, fitted to the scores: suspect is whoever belongs rather to the upper one.

    The estimate of wrong labels is the weight of the upper component, or the count of the confident joint where that
    is smaller: a tail of hard images makes the first too large, a weak model the second. The interval holds those of
    both, and never more are suspect than the estimate. One spread for both components: docs/design.md says why.
    """
    low, high = scores.values.min(), scores.values.max()
    centre = torch.linspace(float(low), float(high), BINS, dtype=torch.float64)
    bins = ((scores.values - low) / (high - low).clamp_min(1e-9) * (BINS - 1)).round().long()
    counts = bins.bincount(minlength=BINS).double()
    starts = [fit(counts[None], centre, share) for share in STARTS]
    share = STARTS[max(range(len(STARTS)), key=lambda start: float(starts[start][2]))]
    generator = torch.Generator().manual_seed(seed_of("mixture"))
    resampled = torch.poisson(counts.expand(draws, -1), generator)
    upper, weight, _ = fit(torch.cat([counts[None], resampled]), centre, share)
    spread = weight[1:].sort().values * len(bins)
    estimate = (float(weight[0]) * len(bins), float(spread[int(0.025 * draws)]), float(spread[int(0.975 * draws)]))
    if passes.has_heldout(run):
        joint = wrong_by_class(run)[1]
        estimate = (min(estimate[0], joint[0]), min(estimate[1], joint[1]), max(estimate[2], joint[2]))
    rank = scores.values.argsort(descending=True, stable=True).argsort()
    suspect = (upper[0, bins] > 0.5) & (rank < round(estimate[0]))
    return decide(run.data, scores, suspect, opinion(run), sure, "mixture", estimate)


def fit(
    counts: Float[Tensor, "R L"], centre: Float[Tensor, " L"], start: float
) -> tuple[Float[Tensor, "R L"], Float[Tensor, " R"], Float[Tensor, " R"]]:
    """EM on several histograms at once, from an upper component of weight `start`.

    Returns the chance that a score in each bin is of the upper component, its weight, and the log-likelihood.
    """
    weight = counts / counts.sum(1, keepdim=True)
    mean = (weight * centre).sum(1, keepdim=True)
    sd = (weight * (centre - mean).square()).sum(1, keepdim=True).sqrt()
    floor = (centre[-1] - centre[0]) / BINS + 1e-9
    gap = (start * (1 - start)) ** -0.5 * 0.9 * sd  # 0.81 of the variance lies between the components
    mu = torch.stack([mean - start * gap, mean + (1 - start) * gap])
    sd = (0.19**0.5 * sd).clamp_min(floor)
    share = torch.stack([torch.full_like(mean, 1 - start), torch.full_like(mean, start)])
    for _ in range(ROUNDS):
        belongs = (share.log() - 0.5 * ((centre - mu) / sd) ** 2).softmax(0)
        share = (belongs * weight).sum(2, keepdim=True).clamp_min(1e-9)
        mu = (belongs * weight * centre).sum(2, keepdim=True) / share
        sd = (belongs * weight * (centre - mu) ** 2).sum((0, 2), keepdim=True)[0].sqrt().clamp_min(floor)
    density = share.log() - 0.5 * ((centre - mu) / sd) ** 2 - sd.log()
    likelihood = (weight * density.logsumexp(0)).sum(1)
    return density.softmax(0)[1], share[1, :, 0], likelihood
