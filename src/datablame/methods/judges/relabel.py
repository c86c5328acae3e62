"""Data debugging: the most suspect share gets new labels.

Jia et al., 2023 (section 4.3). arXiv:2212.09321
"""

from __future__ import annotations

import torch

from datablame.label_quality.out_of_sample import opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import FIX, KEEP, Verdict, least, most_suspect


def relabel(run: Run, scores: Scores, share: float = 0.1) -> Verdict:
    """The most suspect `share` gets the class that models which did not train on it think
    likeliest; where that is the given one, it is kept.
    """
    suspect, estimate = most_suspect(scores, share)
    probability, best = opinion(run).max(1)
    fixed = suspect & (best != run.data.labels)
    act, proposed = torch.where(fixed, FIX, KEEP), torch.where(fixed, best, -1)
    probability, by = torch.where(fixed, probability, 0.0), f"relabel,share={share:g}"
    return Verdict(
        act, proposed, probability, scores.values, by, least(scores, suspect), estimate, scores.name
    )
