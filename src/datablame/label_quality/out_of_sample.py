"""Out-of-sample probabilities: from models that were not trained on the example."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datablame.base import processes
from datablame.base.errors import InputError
from datablame.base.readers import read_array
from datablame.base.shapes import Float
from datablame.run import Run


def path_of(run: Run) -> Path:
    return run.path / "heldout.npy"


def has_heldout(run: Run) -> bool:
    """Whether there are held-out probabilities, or the recipe has the folds to make them."""
    return run.recipe.folds > 1 or path_of(run).exists()


def heldout(run: Run) -> np.ndarray:
    """float32 `[N,K]`, memory-mapped: probabilities of each example by a model that was not trained
    on it.

    Raises InputError where there are none, with the command that makes them.
    """
    if not processes.agree(path_of(run).exists()):
        how = (
            "run the same `datablame train` again to make them"
            if run.recipe.folds > 1
            else "train with --folds 4"
        )
        raise InputError(
            f"{run.path} has no held-out probabilities; {how}, or give them to Run.from_predictions"
        )
    shape = (len(run.data), len(run.data.classes))
    return read_array(path_of(run), shape, "f", finite=True)


def opinion(run: Run) -> Float[Tensor, "N K"]:
    """Held-out probabilities where there are any; else the votes of the epochs, each for the class
    it predicted.
    """
    if has_heldout(run):
        return torch.from_numpy(np.array(heldout(run)))
    votes, epochs = epoch_votes(run)
    return votes / epochs


def epoch_votes(
    run: Run, since: float = 0.0, until: float = 1.0
) -> tuple[Float[Tensor, "N K"], int]:
    """How many of the epochs in a part of the training predicted each class, and how many these
    are: one at least.
    """
    predictions = run.trace["prediction"]
    first = min(int(since * len(predictions)), len(predictions) - 1)
    some = predictions[first : max(first + 1, int(until * len(predictions)))]
    total = torch.zeros(predictions.shape[1], len(run.data.classes))
    for row in some:
        total.scatter_add_(
            1, torch.from_numpy(row.astype("int64"))[:, None], torch.ones(len(row), 1)
        )
    return total, len(some)
