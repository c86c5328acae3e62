"""The order in which a reviewer finds wrong labels soonest, learned from what was decided so far.

A logistic regression on the signals, in which the machine's own probability is the offset, so that
nothing changes before anything was decided. Relevance feedback: Rocchio, 1971.
"""

from __future__ import annotations

import numpy as np

RIDGE, PAIR = 3.0, 10.0
"""Weight decay of the signals, and decisions that a pair of classes is worth beforehand."""
STEPS = 25


def features(scores: list[np.ndarray]) -> np.ndarray:
    """float64 `[N, S]`: each score by its ranks, as if they were of a normal distribution."""
    from scipy.stats import norm

    found = []
    for values in scores:
        place = np.argsort(np.argsort(values, kind="stable"), kind="stable")
        found.append(norm.ppf((place + 0.5) / len(values)))
    return np.stack(found, 1) if found else np.zeros((0, 0))


def logit(p: np.ndarray) -> np.ndarray:
    p = np.clip(p.astype("float64"), 1e-3, 1 - 1e-3)
    return np.log(p / (1 - p))


def reordered(
    x: np.ndarray, p_wrong: np.ndarray, pair: np.ndarray, rows: np.ndarray, wrong: np.ndarray
) -> np.ndarray:
    """Log odds `[N]` that each label is wrong, by decisions on some `rows` (`wrong`, bool).

    `x` are the signals `[N, S]`, `pair` the number of the given and proposed class of each example:
    pairs in which more labels were wrong than was expected move up.
    """
    offset = logit(p_wrong)
    if len(rows) < 2:
        return offset
    design = np.concatenate([np.ones((len(x), 1)), x], 1)
    decay = np.full(design.shape[1], RIDGE)
    decay[0] = 1e-3  # how often labels are wrong is left to the decisions
    weight = np.zeros(design.shape[1])
    some, aim = design[rows], wrong.astype("float64")
    for _ in range(STEPS):
        p = 1 / (1 + np.exp(-(offset[rows] + some @ weight)))
        gradient = some.T @ (p - aim) + decay * weight
        curve = (some * (p * (1 - p))[:, None]).T @ some + np.diag(decay)
        step = np.linalg.solve(curve, gradient)
        weight -= step * min(1.0, 2.0 / max(np.abs(step).max(), 1e-9))
        if np.abs(step).max() < 1e-6:
            break
    found = offset + design @ weight
    p = 1 / (1 + np.exp(-found[rows]))
    seen, back = np.unique(pair[rows], return_inverse=True)
    hits, foretold = np.bincount(back, aim), np.bincount(back, p)
    count = np.bincount(back)
    more = logit((hits + PAIR * foretold / count) / (count + PAIR)) - logit(foretold / count)
    place = np.searchsorted(seen, pair).clip(max=len(seen) - 1)
    return found + np.where(seen[place] == pair, more[place], 0.0)
