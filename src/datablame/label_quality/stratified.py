"""How many of many, by a few answers: bounds that hold at every moment one looks.

Images are drawn in strata of like probability, those in doubt more often, as in a stratified
risk-limiting audit (Stark, SUITE, 2018, arXiv:1809.04235; Spertus, Stark, 2022, arXiv:2207.03379;
drawing by doubt: Zrnic, Candes, 2024, arXiv:2403.03208). The evidence against a share in a stratum
is a mixture likelihood ratio, a martingale under that share (Robbins, 1970; Waudby-Smith, Ramdas,
2023, arXiv:2010.09686); the product over strata, and any mean of such products, bounds their sum.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import betaln, logsumexp

STRATA = 3
TRUST = 30.0
"""Answers that the model's own probability of a stratum counts for in the mixture: bounds hold
whatever it says, and are narrower where it is right."""
DOUBTS = {0.0: 0.1, 0.3: 0.15, 1.0: 0.4, 3.0: 0.15}
"""Odds of the model's probabilities by which they may be off, and their weights in the mixture: the
set may be clean, whatever it says. The rest is Jeffreys' prior, of no opinion."""
EVEN = 0.6
"""Of the draws, spread evenly over all images: doubt is a help in a noisy set, and no help in a
clean one."""
BISECTIONS = 60


def strata(q: np.ndarray, count: int = STRATA) -> np.ndarray:
    """The stratum `[N]` of each image, from the least suspect: of equal sums of
    `(q (1 - q))^(1/4)`, after Dalenius and Hodges, 1959.
    """
    order = np.argsort(q, kind="stable")
    doubt = np.cumsum((q[order] * (1 - q[order]) + 1e-6) ** 0.25)
    out = np.empty(len(q), np.int64)
    out[order] = np.minimum((doubt / doubt[-1] * count).astype(int), count - 1)
    return np.unique(out, return_inverse=True)[1].reshape(-1)


def shares(sizes: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Of the draws, how many go to each stratum: by size and doubt (Neyman, 1934), `EVEN` of them
    by size alone.
    """
    weight = sizes * np.sqrt(expected * (1 - expected)) + 1e-9
    return (1 - EVEN) * weight / weight.sum() + EVEN * sizes / sizes.sum()


def bounds(
    hits: np.ndarray,
    draws: np.ndarray,
    sizes: np.ndarray,
    expected: np.ndarray,
    error: float = 0.05,
) -> tuple[float, float]:
    """Ends of an interval for the number of hits among all `sizes [H]` images, after `hits [H]` in
    `draws [H]`.

    With probability `1 - error` it holds the truth at all moments at once, whatever `expected [H]`,
    the shares that the model foretells, which must be known before the draws.
    """
    spare = -np.log(error) - evidence(hits, draws, expected)
    weight = sizes / sizes.sum()

    def at(pull: float) -> tuple[float, float]:
        share = _least(hits, draws, pull * weight)
        return float((weight * share).sum()), float(_unlikely(hits, draws, share).sum())

    def end(sign: float) -> float:
        return at(sign * _furthest(lambda pull: at(sign * pull)[1] < spare))[0]

    low, high = end(1.0), end(-1.0)
    return low * float(sizes.sum()), high * float(sizes.sum())


def evidence(hits: np.ndarray, draws: np.ndarray, expected: np.ndarray) -> float:
    """Log probability of the answers under the mixture of what the model foretells, of that with
    other odds (`DOUBTS`), and of no opinion (Jeffreys).
    """

    def of(prior: np.ndarray, trust: float) -> float:
        rest = trust - prior
        return float((betaln(prior + hits, rest + draws - hits) - betaln(prior, rest)).sum())

    def off(odds: float) -> float:
        share = odds * expected / (odds * expected + 1 - expected + 1e-12)
        return of(TRUST * np.clip(share, 0.002, 0.998), TRUST)

    parts = [of(np.full(len(expected), 0.5), 1.0), *(off(odds) for odds in DOUBTS)]
    weights = [1 - sum(DOUBTS.values()), *DOUBTS.values()]
    return float(np.asarray(logsumexp(parts, b=weights)))


def _furthest(holds: Callable[[float], bool]) -> float:
    """The largest number for which something holds that holds for small ones."""
    low, high = 0.0, 1e-3
    while holds(high) and high < 1e12:
        low, high = high, 2 * high
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _least(hits: np.ndarray, draws: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """The shares that are least contradicted by the answers, each pulled down: the root in [0, 1]
    of `-hits / m + (draws - hits) / (1 - m) + pull = 0`.
    """
    linear = draws + pull
    root = np.sqrt(np.maximum(linear**2 - 4 * pull * hits, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):  # of equal roots, the one without a loss
        share = np.where(linear >= 0, 2 * hits / (linear + root), (linear - root) / (2 * pull))
    return np.clip(np.nan_to_num(share), 0, 1)


def _unlikely(hits: np.ndarray, draws: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Minus the log likelihood of the answers of each stratum under a share."""
    with np.errstate(divide="ignore", invalid="ignore"):
        yes = np.where(hits > 0, hits * np.log(share), 0.0)
        no = np.where(draws > hits, (draws - hits) * np.log1p(-share), 0.0)
    return -(yes + no)
