"""Asking: the queries of an explanation, from picture files, the test set or the training set."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from datablame.base import hashing
from datablame.base.errors import InputError, at_least, unknown
from datablame.dataset import Dataset, Packed
from datablame.inference import predictions
from datablame.run import Run

PICKS = ("first", "mistakes", "training")


def pictures(run: Run, files: Sequence[Path | str], label: str | None = None) -> Dataset:
    """Picture files as queries, brought to the training images' size; by default their label is the
    model's prediction.

    Raises InputError for a file that is not there or no picture, and for a label that is no class.
    """
    data = run.data
    found = []
    for path in map(Path, files):
        if not path.is_file():
            raise InputError(f"there is no picture {path}")
        pixels = data.pixels.decoded(path.read_bytes())
        if pixels is None:
            raise InputError(f"{path} cannot be read as a picture")
        found.append(pixels)
    if label is not None and label not in data.classes:
        raise unknown("class", label, data.classes)
    queries = dataclasses.replace(
        data,
        images=Packed(np.stack(found)),
        labels=torch.zeros(len(found), dtype=torch.int64),
        names=pa.array([str(path) for path in files]),
        rows=torch.arange(len(found)),
        truth=None,
        votes=None,
        groups=None,
        texts=None,
        source="pictures",
        split="queries",
    )
    with torch.inference_mode():
        answers = run.model(queries.batch(torch.arange(len(found)))[0]).argmax(1).cpu()
    return queries.relabel(
        answers if label is None else torch.full_like(answers, data.classes.index(label))
    )


def picked(run: Run, count: int, pick: str = "first") -> Dataset:
    """Queries: the first test images, those that the model gets wrong, the surest first, or
    training images, drawn by the run's seed.

    Raises InputError where the run has no test split, or nothing to pick.
    """
    if pick not in PICKS:
        raise unknown("pick", pick, PICKS)
    at_least(1, queries=count)
    if pick == "training":
        return run.data.take(hashing.some(len(run.data), count, "asked", run.recipe.seed))
    if run.test is None:
        raise InputError(
            f"{run.path} has no test split; name pictures to explain, or ask for --pick training"
        )
    rows = torch.arange(len(run.test))
    if pick == "mistakes":
        probability, answer = torch.from_numpy(np.array(predictions.on_test(run))).max(1)
        wrong = (answer != run.test.labels).nonzero()[:, 0]
        rows = wrong[probability[wrong].argsort(descending=True, stable=True)]
        if not len(rows):
            raise InputError("the model makes no mistake on the test set; use --pick first")
    return run.test.take(rows[:count])
