"""Copies that are labelled otherwise: one of the labels is wrong, whatever a model says.

Barz, Denzler, 2020. Do we train on test data? Purging CIFAR of near-duplicates. arXiv:1902.00423

Formula: `sum_j [y_j != y_n] / #copies`.
When: the same picture may be there twice. No model is needed.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.inference.copies import of_sets
from datablame.run import Run

WHOLE = True


def copies(run: Run) -> Float[Tensor, " N"]:
    """The share of an image's copies, resized, cropped or mirrored ones among them, that have
    another label; 0 without copies.
    """
    first = torch.from_numpy(np.array(of_sets(run.data, run.test))).long()[: len(run.data)]
    labels = run.data.labels
    several = first.bincount(minlength=len(first))[first]
    pairs = torch.stack([first, labels])
    _, place, same = pairs.unique(dim=1, return_inverse=True, return_counts=True)
    return (several - same[place]) / (several - 1).clamp_min(1)
