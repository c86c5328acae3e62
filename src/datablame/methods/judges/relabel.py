"""Data debugging: the most suspect share gets new labels.

Jia et al., 2023 (section 4.3). arXiv:2212.09321
"""

from __future__ import annotations

import torch

from datablame.base import progress
from datablame.label_quality.out_of_sample import has_heldout, opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import FIX, KEEP, Verdict, least, most_suspect


def relabel(run: Run, scores: Scores, share: float = 0.1) -> Verdict:
    """The most suspect `share` gets the class that models which did not train on it think
    likeliest, or without such models the votes of the epochs, as it then says; where that is the
    given one, it is kept.
    """
    if not has_heldout(run):
        progress.say(
            "new labels are the votes of the epochs of the model that trained on the given ones, "
            "which it may have learned by heart; --folds 4 gives answers of models that did not"
        )
    suspect, estimate = most_suspect(scores, share)
    probability, best = opinion(run).max(1)
    fixed = suspect & (best != run.data.labels)
    act, proposed = torch.where(fixed, FIX, KEEP), torch.where(fixed, best, -1)
    probability, by = torch.where(fixed, probability, 0.0), f"relabel,share={share:g}"
    return Verdict(
        act, proposed, probability, scores.values, by, least(scores, suspect), estimate, scores.name
    )
