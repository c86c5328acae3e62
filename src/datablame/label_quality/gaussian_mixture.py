"""Two mixture in a set of numbers: a mixture of two normals of one spread, fitted to a histogram.

After Arazo et al., 2019. arXiv:1904.11238
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datablame.base.hashing import seed_of
from datablame.base.shapes import Float

BINS = 400
ROUNDS = 300
STARTS = (0.05, 0.2, 0.4)
"""Weights of the upper component from which the fit begins; the likeliest end is taken."""


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """Between `low` and `high`, the probability `upper [L]` that a number in each bin belongs to
    the upper component, and the component's weight with the ends of its 95 % interval; `spread` is
    the standard deviation of either, and the two means are `apart` times that from each other."""

    low: float
    high: float
    upper: Float[Tensor, " L"]
    share: tuple[float, float, float]
    spread: float
    apart: float

    @classmethod
    def of(cls, values: Float[Tensor, " N"], draws: int = 200) -> GaussianMixture:
        """Fit to the numbers; `draws` resampled histograms give the interval."""
        low, high = float(values.min()), float(values.max())
        counts = _bins(values, low, high).bincount(minlength=BINS).double()
        centre = torch.linspace(low, high, BINS, dtype=torch.float64)
        starts = [fit(counts[None], centre, share)[3] for share in STARTS]
        start = STARTS[max(range(len(STARTS)), key=lambda which: float(starts[which]))]
        resampled = torch.poisson(
            counts.expand(draws, -1), torch.Generator().manual_seed(seed_of("mixture"))
        )
        upper, weight, sd, _, apart = fit(torch.cat([counts[None], resampled]), centre, start)
        redrawn = weight[1:].sort().values.tolist()
        share = (float(weight[0]), redrawn[int(0.025 * draws)], redrawn[int(0.975 * draws)])
        return cls(low, high, upper[0].float(), share, float(sd[0]), float(apart[0]))

    def count(self, number: int) -> tuple[float, float, float]:
        """How many of so many the upper component holds, with the ends of its interval."""
        return self.share[0] * number, self.share[1] * number, self.share[2] * number

    def probability(self, values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The probability that each of these numbers, of the same kind, belongs to the upper
        hump.
        """
        return self.upper[_bins(values, self.low, self.high)]


def _bins(values: Float[Tensor, "..."], low: float, high: float) -> Tensor:
    """The bin of each number; numbers beyond the ends go into the last ones."""
    return ((values - low) / max(high - low, 1e-9) * (BINS - 1)).round().long().clamp(0, BINS - 1)


def fit(
    counts: Float[Tensor, "R L"], centre: Float[Tensor, " L"], start: float
) -> tuple[Float[Tensor, "R L"], *tuple[Float[Tensor, " R"], ...]]:
    """EM on several histograms at once, from an upper component of weight `start`.

    Returns the probability that a score in each bin is of the upper component, its weight, the
    spread of both, the log-likelihood, and how many spreads the means are apart.
    """
    weight = counts / counts.sum(1, keepdim=True)
    mean = (weight * centre).sum(1, keepdim=True)
    sd = (weight * (centre - mean).square()).sum(1, keepdim=True).sqrt()
    floor = (centre[-1] - centre[0]) / BINS + 1e-9
    gap = (
        (start * (1 - start)) ** -0.5 * 0.9 * sd
    )  # 0.81 of the variance lies between the components
    mu = torch.stack([mean - start * gap, mean + (1 - start) * gap])
    sd = (0.19**0.5 * sd).clamp_min(floor)
    share = torch.stack([torch.full_like(mean, 1 - start), torch.full_like(mean, start)])
    for _ in range(ROUNDS):
        belongs = (share.log() - 0.5 * ((centre - mu) / sd) ** 2).softmax(0)
        share = (belongs * weight).sum(2, keepdim=True).clamp_min(1e-9)
        mu = (belongs * weight * centre).sum(2, keepdim=True) / share
        sd = (
            (belongs * weight * (centre - mu) ** 2)
            .sum((0, 2), keepdim=True)[0]
            .sqrt()
            .clamp_min(floor)
        )
    density = share.log() - 0.5 * ((centre - mu) / sd) ** 2 - sd.log()
    likelihood = (weight * density.logsumexp(0)).sum(1)
    apart = (mu[1] - mu[0])[:, 0] / sd[:, 0]
    return density.softmax(0)[1], share[1, :, 0], sd[:, 0], likelihood, apart
