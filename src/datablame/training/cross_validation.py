"""Models that each leave out a part of the training set: out-of-sample probabilities of every
example, and where there is no test set, all that is known of it (cross-fitting).
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import torch

from datablame.base import arrays, files, hashing, processes, progress
from datablame.base.readers import read_array
from datablame.inference.folds import Fold, parts, rest, spread
from datablame.inference.predictions import accuracy, on_test
from datablame.label_quality.out_of_sample import path_of
from datablame.run import Run
from datablame.trace import BEST
from datablame.training.fit import fit
from datablame.training.pace import threads_of

BY_ONE = ("prediction", *BEST)
"""Channels of which there is no mean: the next fold's model speaks."""


def cross_validate(run: Run) -> None:
    """Write `heldout.npy`, float32 `[N,K]`: each fold's probabilities by a model trained on the
    other folds; resumes.

    Does nothing where the recipe has no folds, or the file is there.
    """
    if run.recipe.folds < 2 or processes.agree(path_of(run).exists()):
        return
    whole = np.zeros((len(run.data), len(run.data.classes)), "float32")
    for number, fold in enumerate(folds(run)):
        if not fold.run.finished:
            progress.say(f"model {number + 1} of {run.recipe.folds}, each leaves out a fold")
        fit(fold.run, threads_of(run))
        whole[fold.rows.numpy()] = on_test(fold.run)
    arrays.write(path_of(run), whole)


def cross_fit(run: Run) -> None:
    """Train the models of the folds; the run's trace is the mean over those that trained on the
    example, and no model has seen all of them. Resumes.

    The name is of Chernozhukov et al., 2018. arXiv:1608.00060
    """
    if run.finished:
        return
    cross_validate(run)
    every = folds(run)
    for fold in every:
        accuracy(fold.run)
    with progress.stage("unite the folds"):
        _unite(run, every)
    run.finish()


def folds(run: Run) -> list[Fold]:
    """The folds of a run, made where they are not there; trained by `cross_validate`."""
    made = []
    for number, rows in enumerate(parts(run.data, run.recipe.folds, run.recipe.seed)):
        others = rest(rows, len(run.data))
        seed = hashing.seed_of("fold", run.recipe.seed, number) % 2**31
        recipe = run.recipe.but(folds=0, seed=seed)
        known = dataclasses.replace(run.data, aside=())
        train, test = known.take(others), dataclasses.replace(known.take(rows), split="fold")
        each = Run.create(train, recipe, test, run.path / "folds", str(number))
        made.append(Fold(each, rows, others))
    return made


def _unite(run: Run, every: list[Fold]) -> None:
    """The trace of all examples, temperatures of classes, and the log: means over the folds."""
    for name in every[0].run.trace:
        _unite_channel(run, every, name)
    kept = [fold.run.path / "class_temperature.npy" for fold in every]
    if kept[0].exists():
        arrays.write(run.path / kept[0].name, np.mean([read_array(path) for path in kept], 0))
    lines = []
    for entries in zip(*(fold.run.log for fold in every), strict=True):
        means = {key: sum(each[key] for each in entries) / len(every) for key in entries[0]}
        means |= {"epoch": entries[0]["epoch"], "seconds": means["seconds"] * len(every)}
        lines.append(json.dumps({key: round(value, 5) for key, value in means.items()}))
    files.write_text(run.path / "log.jsonl", "\n".join(lines) + "\n")


def _unite_channel(run: Run, every: list[Fold], name: str) -> None:
    each = [fold.run.trace[name] for fold in every]
    shape = (run.recipe.epochs, len(run.data), *each[0].shape[2:])
    whole = arrays.mapped(run.path / "trace" / f"{name}.npy", shape, each[0].dtype.name)
    for epoch in range(run.recipe.epochs):
        if name not in BY_ONE:
            rows = [torch.from_numpy(part[epoch].astype("float32")) for part in each]
            whole[epoch] = spread(run, rows, every).numpy()
            continue
        for number, fold in enumerate(every):
            following = (number + 1) % len(every)
            place = torch.searchsorted(every[following].rest, fold.rows).numpy()
            whole[epoch, fold.rows.numpy()] = each[following][epoch, place]
    if isinstance(whole, np.memmap):
        whole.flush()
