"""A second opinion on every label: probabilities of each class by someone who did not learn the label by heart."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from datablame.evidence import passes
from datablame.run import Run


def opinion(run: Run) -> Float[Tensor, "N K"]:
    """Held-out probabilities where there are any; else the votes of the epochs, each for the class it predicted."""
    if passes.has_heldout(run):
        return torch.from_numpy(np.array(passes.heldout(run)))
    return votes(run)


def votes(run: Run) -> Float[Tensor, "N K"]:
    """Share of the epochs that predicted each class."""
    guess = torch.from_numpy(run.trace["guess"].astype("int64"))
    return torch.stack([one_hot(row, len(run.data.classes)) for row in guess]).float().mean(0)
