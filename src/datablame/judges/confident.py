"""Confident learning, prune by noise rate. Northcutt, Jiang, Chuang, 2021 (section 3). arXiv:1911.00068"""

from __future__ import annotations

import torch

from datablame.evidence.joint import wrong_by_class
from datablame.evidence.opinion import opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide


def confident(run: Run, scores: Scores, sure: float = 0.8) -> Verdict:
    """As many of each given class as the confident joint counts off its diagonal, the most suspect first."""
    each, estimate = wrong_by_class(run)
    order = scores.values.argsort(descending=True, stable=True)
    order = order[run.data.labels[order].argsort(stable=True)]  # by class, and by suspicion within it
    size = run.data.labels.bincount(minlength=len(each))
    place = torch.arange(len(order)) - (size.cumsum(0) - size)[run.data.labels[order]]
    suspect = torch.zeros(len(order), dtype=torch.bool)
    suspect[order] = place < each.round()[run.data.labels[order]]
    return decide(run.data, scores, suspect, opinion(run), sure, "confident", estimate)
