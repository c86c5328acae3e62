"""Sets other than the training set: their classes and sizes must be its
own.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import torch

from datablame.base import progress
from datablame.base.errors import InputError
from datablame.base.shapes import Shaped
from datablame.dataset import Dataset

SEEN, BLOCK = 256, 4096
"""Pixels that are compared first, and images looked at together."""


def matched(test: Dataset, data: Dataset, what: str = "test images") -> Dataset:
    """The test set with its classes numbered as the training set's.

    Raises InputError where classes or sizes do not fit.
    """
    if other := sorted(set(test.classes) - set(data.classes)):
        raise InputError(
            f"the {what} have classes that the training set has not: {', '.join(other[:5])}"
        )
    if test.shape != data.shape:
        raise InputError(
            f"{what} are {test.shape}, training images {data.shape}; bring both to one "
            "size with --size"
        )
    number = torch.tensor([*(data.classes.index(name) for name in test.classes), -1])
    return dataclasses.replace(
        test,
        classes=data.classes,
        labels=number[test.labels],
        truth=None if test.truth is None else number[test.truth],
        votes=None if test.votes is None else number[test.votes],
        mean=data.mean,
        std=data.std,
    )


def apart(test: Dataset, data: Dataset) -> Dataset:
    """The test images that are not, pixel by pixel, training images too; says how many were.

    Raises InputError where none are left.
    """
    if test.images is None or data.images is None:
        return test
    known, asked = _marks(data), _marks(test)
    order = known.argsort(kind="stable")
    place = order[np.searchsorted(known[order], asked).clip(max=len(known) - 1)]
    alike = (known[place] == asked).nonzero()[0]
    same = [
        row
        for row, other in zip(alike.tolist(), place[alike].tolist(), strict=True)
        if np.array_equal(
            test.images.array[int(test.rows[row])], data.images.array[int(data.rows[other])]
        )
    ]
    if len(same) == len(test):
        raise InputError(
            f"every image of the test set is in the training set of {data.source} too: a test set "
            "needs images that no model has seen"
        )
    if same:
        progress.say(
            f"{len(same):,} of {len(test):,} test images are training images too: they are left "
            "out of the test set"
        )
        left = torch.ones(len(test), dtype=torch.bool)
        left[same] = False
        test = test.take(left)
    return test


def together(data: Dataset, part: Dataset) -> Dataset:
    """A set and a part that was held out of it, which share their images."""
    images = data.images
    if images is not None and images.originals is not None and part.images is not None:
        images = images.of(images.originals.also(part.images.originals), images.native)
    truths, votes = None, None
    if data.truth is not None and part.truth is not None:
        truths = torch.cat([data.truth, part.truth])
    if data.votes is not None and part.votes is not None:
        votes = torch.cat([data.votes, part.votes])
    groups = None
    if data.groups is not None and part.groups is not None:
        groups = torch.cat([data.groups, part.groups])
    texts = None
    if data.texts is not None and part.texts is not None:
        texts = pa.array([*data.texts.to_pylist(), *part.texts.to_pylist()], pa.string())
    return dataclasses.replace(
        data,
        images=images,
        texts=texts,
        labels=torch.cat([data.labels, part.labels]),
        rows=torch.cat([data.rows, part.rows]),
        names=pa.array([*data.names.to_pylist(), *part.names.to_pylist()]),
        truth=truths,
        votes=votes,
        groups=groups,
    )


def _marks(data: Dataset) -> Shaped[np.ndarray, " N"]:
    """A number for each image, equal where images are equal."""
    flat = data.pixels.array.reshape(len(data.pixels.array), -1)
    places = np.unique(np.linspace(0, flat.shape[1] - 1, SEEN).astype(int))
    weights = np.random.default_rng(0).integers(1, 1 << 63, len(places), dtype="uint64")
    blocks = np.array_split(data.rows.numpy(), -(-len(data) // BLOCK))
    return np.concatenate(
        [(flat[rows[:, None], places] * weights).sum(1, dtype="uint64") for rows in blocks]
    )
