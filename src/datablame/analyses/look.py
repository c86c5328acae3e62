"""A first look at a set, before anything is trained: broken files, copies, leaks, images of which
there is little to see, and outliers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.analyses.duplicates import Duplicates
from datablame.base import files, progress, tables
from datablame.base.results import Result
from datablame.base.shapes import Bool, Float, Int
from datablame.data.quality import DEFECTS, Quality
from datablame.dataset import Dataset
from datablame.inference.neighbours import nearest
from datablame.network.classifier import view_of

COPY, CONFLICT, LEAK, SIMILAR, OUTLIER = "copy", "conflict", "leak", "similar", "outlier"
WORDS = {
    CONFLICT: "copies with different labels",
    LEAK: "test images that are training images",
    COPY: "copies",
    SIMILAR: "nearly the same as another",
    "blank": "blank",
    "dark": "dark",
    "bright": "bright",
    "blurred": "blurred",
    "low_information": "with little to see",
    "odd_size": "of an odd size",
    "odd_shape": "of an odd shape",
    OUTLIER: "outliers",
}
"""What the kinds of issue are called."""
NEIGHBOURS, SPREADS = 10, 5.0
"""Nearest others whose mean distance tells an outlier, and how many deviations off the median it
is."""
CLOSE = 0.25
"""Of the mean distance to the next neighbours, at which the nearest shows nearly the same: chosen
on CIFAR-10 with a small net of ours (docs/look.md)."""
TABLE = "look.parquet"
FEW = 20
"""A class with fewer images is named."""


@dataclass(frozen=True, eq=False, repr=False)
class Look(Result):
    """What a set holds, image by image: training images first, then test images.

    `quality` is None of a set without pixels; `distance`, the mean distance of the nearest
    neighbours in an encoder's features, without one; so are `twin`, the image that shows nearly the
    same (-1 where none does), and `closeness`, its distance as a share of that to the next ones.
    """

    path: Path
    data: Dataset
    test: Dataset | None
    known: Duplicates
    quality: list[Quality] | None
    distance: list[Float[np.ndarray, " _"]] | None
    twin: Int[np.ndarray, " N"] | None = None
    closeness: Float[np.ndarray, " N"] | None = None
    encoder: str = ""

    @property
    def parts(self) -> list[Dataset]:
        return [self.data, *([] if self.test is None else [self.test])]

    @cached_property
    def issues(self) -> dict[str, Int[np.ndarray, " m"]]:
        """The images of each kind of issue, numbered through; kinds that there are."""
        total, count = len(self.known.first), len(self.data)
        found: dict[str, Any] = {}
        leaks = [count + row for row, _ in self.known.leaks]
        found[CONFLICT] = [row for rows in self.known.conflicts for row in rows]
        found[LEAK] = leaks
        apart = {*found[CONFLICT], *leaks}
        first = self.known.first.numpy()
        found[COPY] = [k for k in np.flatnonzero(first != np.arange(total)) if k not in apart]
        defects = [each.defects() for each in self.quality or ()]
        for name in DEFECTS if defects else ():
            found[name] = np.flatnonzero(np.concatenate([each[name] for each in defects]))
        if self.twin is not None and self.closeness is not None:
            near = np.flatnonzero((self.twin >= 0) & (first != first[self.twin]))
            found[SIMILAR] = near[np.argsort(self.closeness[near], kind="stable")]
        if self.distance:
            far = np.concatenate([_far(each) for each in self.distance])
            order = np.argsort(-np.concatenate(self.distance), kind="stable")
            found[OUTLIER] = order[far[order]]
        return {name: np.asarray(rows, "int64") for name, rows in found.items() if len(rows)}

    @property
    def unreadable(self) -> list[tuple[str, str, str]]:
        """(split, name, why) of each file that was not read as an image."""
        return [(part.split, name, why) for part in self.parts for name, why in part.aside]

    def to_json(self) -> dict[str, Any]:
        counts = self.data.labels.bincount(minlength=len(self.data.classes)).tolist()
        by_class = dict(zip(self.data.classes, counts, strict=True))
        few = [name for name, count in by_class.items() if count < FEW]
        return {
            "sentence": self.sentence,
            "page": str(self.path / "look.html"),
            "images": len(self.data),
            "test_images": len(self.test or ()),
            "classes": len(by_class),
            "largest_class": max(by_class, key=lambda name: by_class[name]),
            "imbalance": round(max(counts) / max(1, min(counts)), 2),
            "small_classes": few,
            "unreadable": len(self.unreadable),
            "issues": {name: len(rows) for name, rows in self.issues.items()},
            "faulty_share": round(self._faulty, 6),
        }

    @property
    def _faulty(self) -> float:
        """The share of files that are at fault whatever the set is for: not read, copies with
        different labels, test images that are training images.
        """
        certain = {int(row) for name in (CONFLICT, LEAK) for row in self.issues.get(name, [])}
        lost, seen = len(self.unreadable), len(self.data) + len(self.test or ())
        return (lost + len(certain)) / max(1, lost + seen)

    @property
    def sentence(self) -> str:
        """What was found, in words."""
        found = [f"{WORDS[name]}: {len(rows):,}" for name, rows in self.issues.items()]
        if self.unreadable:
            found.append(f"files that were not read: {len(self.unreadable):,}")
        total = len(self.data) + len(self.test or ())
        return f"{total:,} images; " + ("; ".join(found) if found else "nothing odd")

    def columns(self) -> dict[str, Any]:
        """A row for each image: split, name, label, what is odd about it, the number of the first
        image that it is a copy of (-1 for none), and the measures."""
        total = len(self.known.first)
        said: list[list[str]] = [[] for _ in range(total)]
        for name, rows in self.issues.items():
            for row in rows.tolist():
                said[row].append(name)
        several = self.known.first.bincount(minlength=total)[self.known.first] > 1
        table: dict[str, Any] = {
            "split": [part.split for part in self.parts for _ in range(len(part))],
            "name": [name for part in self.parts for name in part.names.to_pylist()],
            "label": np.concatenate(
                [np.array(part.classes, object)[part.labels.numpy()] for part in self.parts]
            ),
            "issues": [", ".join(each) for each in said],
            "copy_of": torch.where(several, self.known.first, -1).numpy(),
        }
        for name in self.quality[0].columns() if self.quality else ():
            table[name] = np.concatenate([getattr(each, name) for each in self.quality or ()])
        if self.distance:
            table["distance"] = np.concatenate(self.distance)
        if self.twin is not None:
            table |= {"similar_to": self.twin, "closeness": self.closeness}
        return table

    def save(self) -> None:
        """look.parquet, look.json, and unreadable.csv where there are such files."""
        self.keep()
        files.write_json(self.path / "look.json", self.to_json())
        tables.write_any(self.path / "unreadable.csv", ("split", "name", "why"), self.unreadable)

    def keep(self) -> None:
        """look.parquet alone, as a run keeps it."""
        tables.write(self.path / TABLE, self.columns())


def look_at(path: Path, known: Duplicates) -> Look:
    """A look at a set and its test set, whose copies are known, without an encoder."""
    with progress.stage("quality"):
        parts = [each for each in (known.data, known.test) if each is not None]
        quality = [Quality.of(part) for part in parts] if known.data.drawn else None
    return Look(path, known.data, known.test, known, quality, None)


def space_of(data: Dataset, model: str) -> Float[np.ndarray, "N D"]:
    """A frozen encoder's features, or a set of features by themselves."""
    from datablame.inference.features import encoded
    from datablame.network.classifier import build
    from datablame.recipe import Recipe

    if not data.drawn:
        return np.asarray(data.pixels.array[data.rows.numpy()], "float32")[:, :, 0, 0]
    data = data.looked_at(view_of(model))
    found = encoded(build(Recipe(model=model, head="linear"), data), data)
    return np.asarray(found[:], "float32")


def distances(space: Float[np.ndarray, "N D"]) -> Float[np.ndarray, " N"]:
    """The mean cosine distance of each example's nearest NEIGHBOURS."""
    return (1 - nearest(space, NEIGHBOURS)[0].mean(1)).numpy()


def twins(
    space: Float[np.ndarray, "N D"],
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
    """(the nearest other example where it is CLOSE, -1 where it is not; its distance as a share of
    the mean distance of the next ones). A share, so that it means the same in every encoder's
    features.
    """
    cosine, index = (each.numpy() for each in nearest(space, NEIGHBOURS))
    if cosine.shape[1] < NEIGHBOURS:
        return np.full(len(space), -1), np.ones(len(space), "float32")
    share = (1 - cosine[:, 0]) / np.maximum(1 - cosine[:, 1:].mean(1), 1e-6)
    return np.where(share < CLOSE, index[:, 0], -1), share.clip(0, 1)


def _far(distance: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
    """Which are outliers: so many robust deviations above the median of the logarithms."""
    logs = np.log(np.maximum(distance, 1e-6))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return logs > middle + SPREADS * max(spread, 1e-6)
