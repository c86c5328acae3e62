"""A second opinion on every label: probabilities of each class by someone who did not learn the label by heart."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datablame.evidence import passes
from datablame.run import Run


def opinion(run: Run) -> Float[Tensor, "N K"]:
    """Held-out probabilities where there are any; else the votes of the epochs, each for the class it predicted."""
    if passes.has_heldout(run):
        return torch.from_numpy(np.array(passes.heldout(run)))
    return votes(run)


def votes(run: Run) -> Float[Tensor, "N K"]:
    """Share of the epochs that predicted each class."""
    guess = run.trace["guess"]
    total = torch.zeros(guess.shape[1], len(run.data.classes))
    for row in guess:
        total.scatter_add_(1, torch.from_numpy(row.astype("int64"))[:, None], torch.ones(len(row), 1))
    return total / len(guess)
