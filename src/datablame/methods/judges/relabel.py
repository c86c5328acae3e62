"""Data debugging: the most suspect share gets new labels.

Jia et al., 2023 (section 4.3). arXiv:2212.09321

Formula: `y = argmax_k p_k(n)`, for the share with the highest scores.
When: the share of wrong labels is known, and the model is right about most of them.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base import progress
from datablame.base.errors import InputError
from datablame.base.shapes import Float
from datablame.inference.predictions import probabilities
from datablame.label_quality.out_of_sample import has_heldout, opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import FIX, KEEP, Verdict, least, most_suspect


def relabel(run: Run, scores: Scores, share: float = 0.1, answers: str = "") -> Verdict:
    """The most suspect `share` gets the class that models which did not train on it think
    likeliest, or without such models the votes of the epochs, as it then says; where that is the
    given one, it is kept. `answers`: a run whose model is asked instead, such as the one that
    `retrain` trained on the rest.
    """
    if answers:
        told = torch.from_numpy(np.array(probabilities(_asked(run, answers), run.data)))
    else:
        told = _opinion(run)
    suspect, estimate = most_suspect(scores, share)
    probability, best = told.max(1)
    fixed = suspect & (best != run.data.labels)
    act, proposed = torch.where(fixed, FIX, KEEP), torch.where(fixed, best, -1)
    probability = torch.where(fixed, probability, 0.0)
    by = f"relabel,share={share:g}" + (f",answers={answers}" if answers else "")
    return Verdict(
        act, proposed, probability, scores.values, by, least(scores, suspect), estimate, scores.name
    )


def _opinion(run: Run) -> Float[Tensor, "N K"]:
    if not has_heldout(run):
        progress.say(
            "new labels are the votes of the epochs of the model that trained on the given ones, "
            "which it may have learned by heart; --folds 4 gives answers of models that did not"
        )
    return opinion(run)


def _asked(run: Run, path: str) -> Run:
    """The run at a path. Raises InputError where its classes or images are others."""
    other = Run(path).with_model
    if (other.data.classes, other.data.shape) != (run.data.classes, run.data.shape):
        raise InputError(f"{path} was trained on other classes, or images of another size")
    return other
