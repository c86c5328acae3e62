"""Models that each leave out a part of the training set, for out-of-sample probabilities of every
example.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base import files, hashing, processes, progress
from datablame.dataset import Dataset
from datablame.inference.predictions import on_test
from datablame.label_quality.out_of_sample import path_of
from datablame.run import Run
from datablame.training.fit import fit


def cross_validate(run: Run) -> None:
    """Write `heldout.npy`, float32 `[N,K]`: each fold's probabilities by a model trained on the
    other folds; resumes.

    Does nothing where the recipe has no folds, or the file is there.
    """
    folds = run.recipe.folds
    if folds < 2 or processes.agree(path_of(run).exists()):
        return
    whole = np.zeros((len(run.data), len(run.data.classes)), "float32")
    for fold, rows in enumerate(parts(run.data, folds, run.recipe.seed)):
        rest = torch.ones(len(run.data), dtype=torch.bool)
        rest[rows] = False
        recipe = run.recipe.but(
            folds=0, seed=hashing.seed_of("fold", run.recipe.seed, fold) % 2**31
        )
        sub = Run.create(
            run.data.take(rest.nonzero()[:, 0]),
            recipe,
            run.data.take(rows),
            run.path / "folds",
            str(fold),
        )
        if not sub.finished:
            progress.say(f"held-out predictions: model {fold + 1} of {folds}")
        fit(sub)
        whole[rows.numpy()] = on_test(sub)
    files.write_array(path_of(run), whole)


def parts(data: Dataset, folds: int, seed: int) -> list[Tensor]:
    """Rows of each fold, every class spread evenly over the folds."""
    order = torch.cat(
        [
            (data.labels == k).nonzero()[:, 0][
                hashing.permutation(int((data.labels == k).sum()), "folds", seed, k)
            ]
            for k in range(len(data.classes))
        ]
    )
    return [order[fold::folds].sort().values for fold in range(folds)]
