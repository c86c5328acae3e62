"""A mixture of right and wrong labels in the scores, after Arazo et al., 2019. arXiv:1904.11238"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datablame.evidence.opinion import opinion
from datablame.ground.draw import seed_of
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide

BINS = 400
ROUNDS = 300


def mixture(run: Run, scores: Scores, sure: float = 0.6, draws: int = 200) -> Verdict:
    """Two normal components, fitted by EM to the histogram of the scores: suspect is whoever belongs rather to the upper one.

    The estimate of wrong labels counts suspects that the second opinion contradicts; its interval comes from fits to
    resampled histograms.
    """
    low, high = scores.values.min(), scores.values.max()
    centre = torch.linspace(float(low), float(high), BINS, dtype=torch.float64)
    bins = ((scores.values - low) / (high - low).clamp_min(1e-9) * (BINS - 1)).round().long()
    contradicted = opinion(run)
    against = contradicted.argmax(1) != run.data.labels
    counts, counts_against = bins.bincount(minlength=BINS).double(), bins[against].bincount(minlength=BINS).double()
    generator = torch.Generator().manual_seed(seed_of("mixture"))
    n = len(bins)
    resampled = torch.stack(
        [torch.multinomial(counts, n, True, generator=generator).bincount(minlength=BINS) for _ in range(draws)]
    ).double()
    upper = posterior(torch.cat([counts[None], resampled]), centre)
    suspect = upper[0, bins] > 0.5
    share = counts_against / counts.clamp_min(1)
    wrong = ((upper > 0.5) * torch.cat([counts[None], resampled]) * share).sum(1)
    spread = wrong[1:].sort().values
    estimate = (float(wrong[0]), float(spread[int(0.025 * draws)]), float(spread[int(0.975 * draws)]))
    return decide(run.data, scores, suspect, contradicted, sure, "mixture", estimate)


def posterior(counts: Float[Tensor, "R L"], centre: Float[Tensor, " L"]) -> Float[Tensor, "R L"]:
    """Chance that a score in each bin belongs to the upper component, for several histograms at once."""
    weight = counts / counts.sum(1, keepdim=True)
    mean = (weight * centre).sum(1, keepdim=True)
    spread = (weight * (centre - mean).square()).sum(1, keepdim=True).sqrt()
    mu = torch.stack([mean - spread / 2, mean + 2 * spread])
    sd = torch.stack([spread, spread]).clamp_min(1e-6)
    pi = torch.stack([torch.full_like(mean, 0.9), torch.full_like(mean, 0.1)])
    floor = (centre[-1] - centre[0]) / BINS
    upper = torch.zeros(2, *counts.shape)
    for _ in range(ROUNDS):
        density = pi * torch.exp(-0.5 * ((centre - mu) / sd) ** 2) / sd + 1e-300
        upper = density / density.sum(0)
        mass = (upper * weight).sum(2, keepdim=True).clamp_min(1e-9)
        mu = (upper * weight * centre).sum(2, keepdim=True) / mass
        sd = ((upper * weight * (centre - mu) ** 2).sum(2, keepdim=True) / mass).sqrt().clamp_min(floor)
        pi = mass
    upper = upper[1]
    beyond = centre > mu[1]
    return torch.where(beyond, torch.ones_like(upper), torch.where(centre < mu[0], torch.zeros_like(upper), upper))
