"""Confident learning, prune by noise rate.

Northcutt, Jiang, Chuang, 2021 (section 3). arXiv:1911.00068

Formula: `C_jk = #{n: y_n = j, k = argmax_k p_k(n) of those with p_k(n) >= t_k}, t_k = mean_{n: y_n
= k} p_k(n)`.
When: confident learning is what you compare with. It needs held-out predictions.
"""

from __future__ import annotations

import torch

from datablame.base.hashing import turns
from datablame.label_quality.confident_joint import wrong_by_class
from datablame.label_quality.out_of_sample import opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide

NEEDS = "heldout"


def confident(run: Run, scores: Scores, sure: float = 0.8) -> Verdict:
    """Of each given class the number that the confident joint counts off its diagonal, the most
    suspect first.
    """
    each, estimate = wrong_by_class(run)
    order = scores.values.argsort(descending=True, stable=True)
    suspect = torch.zeros(len(order), dtype=torch.bool)
    given = run.data.labels[order]
    suspect[order] = turns(given) < each.round()[given]
    return decide(run.data, scores, suspect, opinion(run), sure, "confident", estimate)
