"""A label is wrong if that is the likelier by all that the run says of it: scores, held-out
predictions, neighbours.

After Raykar et al., 2010, and Patrini et al., 2017 (arXiv:1609.03683); docs/design.md says how.

Formula: `P(wrong_n) = 1 / (1 + exp(-(a s_n + b + c_jk)))`, such that they add up to the count;
`c_jk` is what the pair of classes says besides the score.
When: always, unless there is a reason: it is the default, and says when the number cannot be told.
"""

from __future__ import annotations

import math

import torch

from datablame.base.errors import InputError, at_least
from datablame.base.shapes import Float
from datablame.label_quality.posterior import posterior as believed
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import ASK, DROP, FIX, KEEP, Verdict


def posterior(
    run: Run,
    scores: Scores,
    at: float = 0.5,
    precision: float = 0.0,
    recall: float = 0.0,
    f1: bool = False,
    sure: float = 0.8,
) -> Verdict:
    """Held wrong is what is wrong with a probability above `at`; with `precision=0.9` or
    `recall=0.9` as many as make that share of them wrong, or hold that share of the wrong, by
    expectation; with `f1=yes` as many as make F1 greatest (Lipton et al., 2014, arXiv:1402.1892:
    all above half of that F1).

    One whose proposed label is right with a probability of at least `sure` gets it, the others are
    dropped. A person is asked about those with at least half the probability that is needed, and
    about a class of which nothing would be left: the models do not know it.
    """
    at_least(0, 1, at=at, precision=precision, recall=recall, sure=sure)
    if bool(precision) + bool(recall) + f1 > 1:
        raise InputError("choose the cut by one of precision, recall and f1")
    found = believed(run, scores)
    wrong, labels = found.p_wrong, run.data.labels
    cut = _cut(wrong, precision, recall) if precision or recall or f1 else at
    share, proposed = found.other.max(1)
    held = wrong > cut
    left = torch.zeros(len(run.data.classes)).index_add_(0, labels, (~held).float())
    held = held & (left[labels] > 0)
    act = torch.full((len(labels),), KEEP)
    act[wrong > cut / 2] = ASK
    act[held] = DROP
    act[held & (wrong * share >= sure)] = FIX
    told = act != KEEP
    return Verdict(
        act,
        torch.where(told, proposed, -1),
        torch.where(told, wrong * share, 0.0),
        found.odds,
        "posterior",
        math.log(max(cut, 1e-9) / max(1 - cut, 1e-9)),
        found.estimate,
        scores.name,
        wrong,
        found.matrix(labels),
    )


def _cut(wrong: Float[torch.Tensor, " N"], precision: float, recall: float) -> float:
    """The probability above which lie as many as are wanted, or those of the greatest F1."""
    falling = wrong.sort(descending=True).values.double()
    hits, held = falling.cumsum(0), torch.arange(1, len(falling) + 1)
    if not precision and not recall:
        best = float((2 * hits / (held + hits[-1])).max())
        none = float((1 - falling).log().sum().exp())  # the chance that nothing is wrong
        return best / 2 if best > none else max(float(falling[0]), 0.5)
    if precision:
        enough = hits / held >= precision
        count = int(enough.nonzero()[-1]) + 1 if enough.any() else 0
    else:
        count = int((hits < recall * hits[-1]).sum()) + 1
    if not count:
        return max(float(falling[0]), 0.5)
    return float(falling[count - 1 : count + 1].mean()) if count < len(falling) else 0.0
