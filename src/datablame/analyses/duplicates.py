"""Duplicates: copies among the images of a set, those that were labelled differently, and those
that are in the test set too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, progress
from datablame.base.readers import Damaged
from datablame.base.results import Result
from datablame.base.shapes import Bool, Int
from datablame.dataset import Dataset
from datablame.inference.copies import cached, of_sets
from datablame.run import Run

FILE = "duplicates.npy"
DIFFERENT = 10
"""Pictures that a class needs at least, for its copies to be kept together."""


@dataclass(frozen=True, eq=False, repr=False)
class Duplicates(Result):
    """`first` is, of each training and then of each test image, the first image that it is a copy
    of: itself where there is none.
    """

    data: Dataset
    test: Dataset | None
    first: Int[Tensor, " n"]

    @cached_property
    def clusters(self) -> list[list[int]]:
        """Training images that are copies of each other, two and more: those with different labels
        first, then the largest.
        """
        found = self._together(torch.arange(len(self.data)))
        return sorted((rows for rows in found if len(rows) > 1), key=self._order)

    @property
    def conflicts(self) -> list[list[int]]:
        """The clusters whose labels differ."""
        return [rows for rows in self.clusters if self._differ(rows)]

    @cached_property
    def leaks(self) -> list[tuple[int, int]]:
        """(test image, the first training image that it is a copy of)."""
        n = len(self.data)
        inner = torch.arange(n, len(self.first))
        start = torch.full((len(self.first),), -1)
        start[self.first[:n].flip(0)] = torch.arange(n).flip(0)  # the lowest is written last
        found = start[self.first[inner]]
        return [(row, int(found[row])) for row in (found >= 0).nonzero()[:, 0].tolist()]

    def of(self, row: int) -> list[int]:
        """The other training images that one is a copy of."""
        same = (self.first[: len(self.data)] == self.first[row]).nonzero()[:, 0].tolist()
        return [other for other in same if other != row]

    def spare(self, labels: Int[Tensor, " N"], gone: Bool[Tensor, " N"]) -> dict[int, str]:
        """Training images that can be left out because a copy stays, each with the reason: of every
        group the first image of the label that most of those have stays that are not `gone`.
        """
        why = {}
        for rows in self.clusters:
            left = [row for row in rows if not gone[row]]
            if len(left) > 1:
                counts = labels[left].bincount()
                stays = next(row for row in left if counts[labels[row]] == counts.max())
                why |= {row: f"a copy of {self.data.name(stays)}" for row in left if row != stays}
        return why

    def without_leaks(self) -> Dataset | None:
        """The test set without copies of training images."""
        if self.test is None:
            return None
        left = torch.ones(len(self.test), dtype=torch.bool)
        left[[row for row, _ in self.leaks]] = False
        return self.test.take(left)

    def equal(self, rows: Sequence[int]) -> bool:
        """Whether these training images have the same pixels."""
        first, *others = (self.data.pixels.array[int(self.data.rows[row])] for row in rows)
        return all(np.array_equal(first, other) for other in others)

    def _differ(self, rows: list[int]) -> bool:
        return len(self.data.labels[rows].unique()) > 1

    def _order(self, rows: list[int]) -> tuple[bool, int, int]:
        return not self._differ(rows), -len(rows), rows[0]

    def _together(self, rows: Int[Tensor, " m"]) -> list[list[int]]:
        """Images by what they are copies of."""
        some = self.first[rows]
        order = some.argsort(stable=True)
        _, counts = some[order].unique_consecutive(return_counts=True)
        return [part.tolist() for part in rows[order].split(counts.tolist())]

    def to_json(self) -> dict[str, Any]:
        """Counts, and a sentence."""
        copied = sum(len(rows) - 1 for rows in self.clusters)
        conflicts = self.conflicts
        said = f"{copied:,} of {len(self.data):,} images are copies of others"
        if copied:
            said += f", {len(conflicts):,} groups of them with different labels"
        if self.test is not None:
            leaks = f"{len(self.leaks):,} of {len(self.test):,}"
            said += f"; {leaks} test images are copies of training images"
        return {
            "sentence": said,
            "images": len(self.data),
            "clusters": len(self.clusters),
            "copies": copied,
            "conflicts": len(conflicts),
            "test_images": len(self.test or ()),
            "leaks": len(self.leaks),
        }

    def columns(self) -> dict[str, Any]:
        """A row for each image that has a copy: the number of the first image of its cluster, its
        name, label and split, cluster by cluster.
        """
        several = self.first.bincount(minlength=len(self.first))[self.first] > 1
        rows = several.nonzero()[:, 0]
        rows = rows[self.first[rows].argsort(stable=True)]
        table: dict[str, list[Any]] = {"cluster": self.first[rows].tolist()}
        places = [self._place(row) for row in rows.tolist()]
        table["name"] = [data.name(row) for data, row in places]
        table["label"] = [data.classes[int(data.labels[row])] for data, row in places]
        table["split"] = [data.split for data, _ in places]
        return table

    def _place(self, row: int) -> tuple[Dataset, int]:
        """(the set of an image, its row there)."""
        inner = row - len(self.data)
        return (self.data, row) if self.test is None or inner < 0 else (self.test, inner)


def duplicates(run: Run) -> Duplicates:
    """Copies among the images of a run, found once and kept in its folder."""
    data, test = run.data, run.test
    total = len(data) + len(test or ())
    first = arrays.keep(run.path / FILE, lambda: between(data, test).first.numpy(), (total,), "i")
    if total and not 0 <= first.min() <= first.max() < total:
        raise Damaged(run.path / FILE, "images that there are not")
    return Duplicates(data, test, torch.from_numpy(first.astype("int64")))


def between(data: Dataset, test: Dataset | None) -> Duplicates:
    """Copies among the images of a set and its test set, found once and kept in the cache."""
    return Duplicates(data, test, torch.from_numpy(of_sets(data, test).astype("int64")))


def settled(
    data: Dataset, test: Dataset | None, keep_leaks: bool = False
) -> tuple[Dataset, Dataset | None]:
    """(the set, copies in it one group each, so that they stay on one side of every split; its test
    set without copies of training images, unless these are kept); says what was left out.

    Sets that are alike through and through, such as the frames of a film, stay as they are: where
    a class would have fewer than DIFFERENT groups, or half of the test set would go.
    """
    if data.images is None:
        return data, test
    known = between(data, test)
    first = known.first[: len(data)]
    if known.clusters and _several(data, first):
        data = dataclasses.replace(data, groups=_joined(data, first))
    if test is None or not known.leaks or keep_leaks:
        return data, test
    if 2 * len(known.leaks) > len(test):
        progress.say(
            f"{len(known.leaks):,} of {len(test):,} test images are like training images: what is "
            "measured on them says little of other images"
        )
        return data, test
    left = torch.ones(len(test), dtype=torch.bool)
    left[[row for row, _ in known.leaks]] = False
    why = [(test.name(row), f"a copy of {data.name(of)}") for row, of in known.leaks]
    progress.say(
        f"{len(known.leaks):,} of {len(test):,} test images are copies of training images: they "
        "are left out of the test set (--keep-leaks keeps them)"
    )
    fewer = dataclasses.replace(test.take(left), aside=(*test.aside, *why))
    kept = torch.cat([torch.ones(len(data), dtype=torch.bool), left])
    place = kept.cumsum(0) - 1
    arrays.keep(
        cached(data, fewer), lambda: place[known.first[kept]].numpy(), (int(kept.sum()),), "i"
    )
    return data, fewer


def _several(data: Dataset, first: Int[Tensor, " N"]) -> bool:
    """Whether every class has DIFFERENT groups of copies, or all its images differ."""
    groups = torch.stack([data.labels, first]).unique(dim=1)[0].bincount()
    return bool((groups >= data.labels.bincount().clamp_max(DIFFERENT)).all())


def _joined(data: Dataset, first: Int[Tensor, " N"]) -> Int[Tensor, " N"]:
    """Groups that hold the copies of their images too."""
    if data.groups is None:
        return first.clone()
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(data)
    number = data.groups.unique(return_inverse=True)[1].numpy()
    one, two = np.concatenate([np.arange(n)] * 2), np.concatenate([n + number, first.numpy()])
    graph = coo_array((np.ones(2 * n, bool), (one, two)), shape=(2 * n, 2 * n))
    return torch.from_numpy(connected_components(graph, directed=False)[1][:n].astype("int64"))


def found(run: Run) -> Duplicates | None:
    """As `duplicates`, where these were looked for already."""
    return duplicates(run) if (run.path / FILE).exists() else None
