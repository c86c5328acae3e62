"""The most suspect share, whatever the scores look like."""

from __future__ import annotations

import torch

from datablame.evidence.opinion import opinion
from datablame.ground.errors import InputError
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide


def top(run: Run, scores: Scores, share: float = 0.1, sure: float = 0.8) -> Verdict:
    """The most suspect `share` of the set; the estimate of wrong labels is that share, without an interval of its own."""
    if not 0 <= share <= 1:
        raise InputError(f"a share is between 0 and 1; {share} was asked")
    count = round(share * len(run.data))
    estimate = (float(count), float(count), float(count))
    suspect = torch.zeros(len(run.data), dtype=torch.bool)
    suspect[scores.values.argsort(descending=True, stable=True)[:count]] = True
    return decide(run.data, scores, suspect, opinion(run), sure, f"top,share={share:g}", estimate)
