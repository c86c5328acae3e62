"""Dataset: labelled images. Cleaning is `Dataset -> Dataset`, and the copies share the images."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from datablame.base import arrays, devices, environment, files, processes, renames, tables
from datablame.base.decode import View
from datablame.base.errors import InputError, unknown
from datablame.base.hashing import parted, permutation
from datablame.base.images import Packed, Vectors, looked_at, shown, statistics
from datablame.base.originals import Crops, restored
from datablame.base.pixel_noise import Perturbation
from datablame.base.readers import LOST, Damaged, read_json, read_table
from datablame.base.results import Result, text
from datablame.base.shapes import Bool, Int, Shaped

UNREADABLE = "cannot be read"
BLOCK = 100_000
"""Names that are hashed at a time."""
CLASSES = 100_000
"""More classes than any set of images has: larger numbers are something else than labels."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset(Result):
    """Labelled images.

    `images` are shared between copies; `rows[i]` says which of them example `i` is. `names` are
    stable ids. `truth` holds the right labels where they are known, for measuring only. `mean` and
    `std` normalise pixels in [0, 1], a channel each. `split` and `source` say where the set came
    from.
    """

    images: Packed | None
    labels: Int[Tensor, " N"]
    classes: tuple[str, ...]
    names: pa.Array
    rows: Int[Tensor, " N"]
    truth: Int[Tensor, " N"] | None = None  # -1 where it is not known
    source: str = "arrays"
    split: str = "train"
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.25,)
    root: str | None = None
    """The folder that `names` are paths in, where the images are files of the user's."""
    listed: bool = False
    """Whether they are named one by one, so that what else lies there is no image of the set."""
    noise: str | None = None
    """The spec of the label noise that was planted."""
    flipped: int | None = None
    """How many labels it changed."""
    predictions: str | None = None
    """Digest of the predictions that stand for the images, where they were made elsewhere."""
    aside: tuple[tuple[str, str], ...] = ()
    """What lies there and was not read: names, and why (UNREADABLE and others)."""
    annotators: tuple[str, ...] = ()
    """Who labelled it, where several did; `labels` are then what they agree on."""
    votes: Int[Tensor, "N M"] | None = None
    """The labels that each of them gave, -1 where none."""
    groups: Int[Tensor, " N"] | None = None
    """Numbers of groups, such as a patient's or a camera's images, or copies of one picture, which
    stay on one side of every split."""
    texts: pa.Array | None = None
    """What a person reads in the place of a picture, where the set is one of features."""

    @classmethod
    def from_arrays(
        cls,
        images: Any,
        labels: Any,
        classes: Iterable[str] | None = None,
        names: Sequence[str] | None = None,
        truth: Any = None,
        source: str = "arrays",
        split: str = "train",
    ) -> Dataset:
        """A set from arrays in memory: `images` uint8 `[N,C,H,W]` (or None), `labels` integers
        `[N]`.

        Raises InputError where shapes, types or labels do not fit.
        """
        labels = _whole_numbers(labels, "labels")
        if images is not None:
            images = np.asarray(images)
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
                raise InputError(
                    "images must be uint8 [N,C,H,W] with 1 or 3 channels; these are "
                    f"{images.dtype} {list(images.shape)}"
                )
            if len(images) != len(labels):
                raise InputError(f"{len(images)} images, but {len(labels)} labels")
        if classes is None and int(labels.max()) >= CLASSES:
            raise InputError(
                f"labels go up to {int(labels.max()):,}; they are class numbers below {CLASSES:,}"
            )
        classes = unique(map(str, range(int(labels.max()) + 1) if classes is None else classes))
        names = (
            [f"{split}/{i:06d}" for i in range(len(labels))]
            if names is None
            else [str(name) for name in names]
        )
        if len(names) != len(labels) or len(set(names)) != len(names):
            raise InputError(
                f"names must be one of a kind, one an example; {len(set(names))} different "
                f"for {len(labels)} examples"
            )
        images = Packed(images) if images is not None else None
        mean, std = statistics(images) if images else ((0.5,), (0.25,))
        truth = None if truth is None else _whole_numbers(truth, "truth")
        return cls(
            images,
            labels,
            classes,
            pa.array(names),
            torch.arange(len(labels)),
            truth,
            source,
            split,
            mean,
            std,
        ).checked()

    @classmethod
    def from_features(
        cls,
        features: Any,
        labels: Any,
        classes: Iterable[str] | None = None,
        names: Sequence[str] | None = None,
        truth: Any = None,
        texts: Sequence[str] | None = None,
        source: str = "features",
        split: str = "train",
    ) -> Dataset:
        """A set of features `[N,D]` of any encoder, of texts, sounds or rows of a table as of
        images; `texts` are what a person reads of each example.

        Raises InputError where they are not finite, or not as many as the labels.
        """
        vectors = Vectors.of_features(features)
        count = len(_whole_numbers(labels, "labels"))
        if len(vectors.array) != count or (texts is not None and len(texts) != count):
            raise InputError(
                f"{count} labels, but {len(vectors.array)} rows of features"
                + (f" and {len(texts)} texts" if texts is not None else "")
            )
        data = cls.from_arrays(None, labels, classes, names, truth, source, split)
        words = None if texts is None else pa.array([str(text) for text in texts], pa.string())
        return dataclasses.replace(data, images=vectors, texts=words, mean=(0.0,), std=(1.0,))

    def checked(self) -> Dataset:
        """Self, if it can be learned from; InputError otherwise."""
        bad = (self.labels < 0) | (self.labels >= len(self.classes))
        if bad.any():
            row = int(bad.nonzero()[0])
            raise InputError(
                f"label {int(self.labels[row])} of {self.name(row)} is outside the "
                f"{len(self.classes)} classes of {self.source} "
                f"({int(bad.sum())} such rows); a set with unlabelled rows needs them removed first"
            )
        if self.truth is not None and (
            len(self.truth) != len(self) or int(self.truth.max()) >= len(self.classes)
        ):
            raise InputError(
                f"the truth of {self.source} must be one of its {len(self.classes)} "
                "classes for every example"
            )
        if len(self.labels.unique()) < 2:
            raise InputError(
                f"{self.source} has one class only ({self.classes[int(self.labels[0])]}); "
                "at least two are needed to tell labels apart"
            )
        return self

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[Shaped[Tensor, "C H W"], int]:
        """(image, label) of one example, as a torch data set gives them; `take` gives several."""
        if not isinstance(row, int) or not -len(self) <= row < len(self):
            raise IndexError(
                f"row {row} of {len(self)} examples; for several use take([0, 1, ...])"
            )
        images, labels = self.batch(torch.tensor([row % len(self)]))
        return images[0], int(labels[0])

    def to_json(self) -> dict[str, Any]:
        """Source, split, shape, and how many examples each class has."""
        known = {} if self.wrong is None else {"wrong_labels": int(self.wrong.sum())}
        counts = self.labels.bincount(minlength=len(self.classes)).tolist()
        facts = {
            "source": self.source,
            "split": self.split,
            "examples": len(self),
            "shape": list(self.shape),
        }
        facts |= {"not_read": self.not_read} if self.aside else {}
        facts |= {"annotators": list(self.annotators)} if self.annotators else {}
        return facts | {"classes": dict(zip(self.classes, counts, strict=True))} | known

    def columns(self) -> dict[str, Any]:
        """A row for each example: name, label, class, and truth where it is known."""
        known = {} if self.truth is None else {"truth": self.truth.numpy()}
        classes = [self.classes[k] for k in self.labels.tolist()]
        return {
            "name": self.names.to_pylist(),
            "label": self.labels.numpy(),
            "class": classes,
        } | known

    def __str__(self) -> str:
        return text(self.to_json())

    def __repr__(self) -> str:
        c, h, w = self.shape
        known = (
            "" if self.wrong is None else f", truth known ({int(self.wrong.sum()):,} labels differ)"
        )
        by = f" by {len(self.annotators)} annotators" if self.annotators else ""
        what = f"images {c}x{h}x{w}" if self.drawn else f"rows of {c} features" if c else "examples"
        return (
            f"{self.source} ({self.split}): {len(self):,} {what} "
            f"in {len(self.classes)} classes{by}{known}"
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`; zeros where there are no images."""
        return self.images.shape if self.images else (0, 0, 0)

    @property
    def drawn(self) -> bool:
        """Whether there are images that can be drawn."""
        return self.images is not None and self.images.drawn

    @property
    def ending(self) -> str:
        """Of the path that the set is best written to; nothing for a folder."""
        originals = self.images.originals if self.images else None
        if isinstance(originals, Crops):
            return originals.ending
        return "" if self.drawn else ".parquet"

    def need_pictures(self, what: str) -> None:
        """Raises InputError where there are none."""
        if not self.drawn:
            raise InputError(f"{what} needs images, and {self.source} has none that can be drawn")

    @property
    def not_read(self) -> dict[str, int]:
        """How many files and folders were set aside, by why."""
        return dict(Counter(why for _, why in self.aside))

    @property
    def wrong(self) -> Bool[Tensor, " N"] | None:
        """Where the given label is known to be wrong; None where no truth is known."""
        return None if self.truth is None else (self.truth >= 0) & (self.truth != self.labels)

    @property
    def closed(self) -> str | None:
        """The folder in which nothing may be written: every picture there would be an image of the
        set.
        """
        return None if self.listed else self.root

    def name(self, row: int) -> str:
        """The name of one example."""
        return self.names[row].as_py()

    def rows_of(self, names: Sequence[str]) -> Int[Tensor, " n"]:
        """The rows of examples by their names. Raises InputError for one that there is not."""
        place = dict(zip(self.names.to_pylist(), range(len(self)), strict=True)) if names else {}
        if missing := [name for name in names if name not in place]:
            raise unknown("training image", missing[0], list(place)[:20])
        return torch.tensor([place[name] for name in names], dtype=torch.int64)

    def batch(
        self, index: Int[Tensor, " B"]
    ) -> tuple[Shaped[Tensor, "B C H W"], Int[Tensor, " B"]]:
        """Images and labels of these examples, on the device: the only door to pixels."""
        return self.pixels.batch(self.rows_at(index)), self.labels_of(index)

    def rows_at(self, index: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Which of the images these examples are, where rows of them are looked up."""
        rows = self._placed_rows
        return rows[torch.as_tensor(index, device=rows.device)]

    def labels_of(self, index: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Labels of these examples, on the device."""
        labels = self._placed_labels
        return labels[torch.as_tensor(index, device=labels.device)]

    @functools.cached_property
    def _placed_rows(self) -> Int[Tensor, " N"]:
        """Moved there once."""
        return self.rows.to(self.pixels.place)

    @functools.cached_property
    def _placed_labels(self) -> Int[Tensor, " N"]:
        return self.labels.to(devices.device())

    @property
    def pixels(self) -> Packed:
        """The images. Raises InputError where there are none."""
        if self.images is None:
            raise InputError(
                f"{self.source} has labels but no images; methods that need pixels cannot run on it"
            )
        return self.images

    def take(
        self, index: Int[Tensor, " n"] | Bool[Tensor, " N"] | Sequence[int] | np.ndarray
    ) -> Dataset:
        """The examples of `index`, in its order. Raises InputError for a row that there is not."""
        index = torch.as_tensor(np.asarray(index))
        index = index.nonzero()[:, 0] if index.dtype == torch.bool else index.long()
        if len(index) and not (-len(self) <= int(index.min()) and int(index.max()) < len(self)):
            raise InputError(
                f"rows go from 0 to {len(self) - 1}; got {int(index.min())} to {int(index.max())}"
            )
        place = pa.array(index.numpy() % max(1, len(self)))
        return dataclasses.replace(
            self,
            labels=self.labels[index],
            rows=self.rows[index],
            names=self.names.take(place),
            truth=None if self.truth is None else self.truth[index],
            votes=None if self.votes is None else self.votes[index],
            groups=None if self.groups is None else self.groups[index],
            texts=None if self.texts is None else self.texts.take(place),
        )

    def looked_at(self, view: View | None) -> Dataset:
        """The same examples as an encoder looks at them: photographs at its own size."""
        if self.images is None:
            return self
        return dataclasses.replace(self, images=looked_at(self.images, view))

    def relabel(self, labels: Int[Tensor, " N"], truth: Int[Tensor, " N"] | None = None) -> Dataset:
        """The same examples with other labels; `truth` replaces the known truth if given."""
        return dataclasses.replace(
            self, labels=labels, truth=self.truth if truth is None else truth
        )

    @property
    def grouped(self) -> bool:
        """Whether some examples have to stay together."""
        return self.groups is not None and len(self.groups.unique()) < len(self)

    def holdout(self, share: float, seed: int = 0) -> tuple[Dataset, Dataset]:
        """A stratified part held out: `(train, test)`; every class of two or more keeps at least
        one on each side, and where there are groups each stays on one side.
        """
        if self.grouped:
            assert self.groups is not None
            held = parted(self.labels, self.groups, (share, 1 - share), "holdout", seed) == 0
            if not held.any() or held.all():
                raise InputError(
                    f"the groups of {self.source} are too few, or too large, to hold out "
                    f"{share:.0%}; name a test set with --test"
                )
            return self.take(~held), dataclasses.replace(self.take(held), split="held-out")
        held = torch.zeros(len(self), dtype=torch.bool)
        for k in range(len(self.classes)):
            mine = (self.labels == k).nonzero()[:, 0]
            count = min(max(round(share * len(mine)), 1), len(mine) - 1) if len(mine) > 1 else 0
            held[mine[permutation(len(mine), "holdout", seed, k)[:count]]] = True
        if not held.any():
            raise InputError(
                f"{self.source} has no class with two examples, so none can be held out; "
                "name a test set with --test"
            )
        train, test = self.take((~held).nonzero()[:, 0]), self.take(held.nonzero()[:, 0])
        return train, dataclasses.replace(test, split="held-out", aside=())

    @functools.cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of images, rows, labels, truth, classes and names: what a
        run's results depend on.
        """
        digest = hashlib.blake2b(digest_size=8)
        digest.update((self.images.mark if self.images else str(self.predictions)).encode())
        for part in (self.rows, self.labels, self.truth, self.votes, self.groups):
            if part is not None:
                digest.update(np.ascontiguousarray(part.numpy()).data)
        digest.update("\0".join([*self.classes, "", ""]).encode())
        for start in range(0, len(self.names), BLOCK):
            names = self.names.slice(start, BLOCK).to_pylist()
            after = "" if start + BLOCK >= len(self.names) else "\0"
            digest.update(("\0".join(names) + after).encode())
        digest.update("".join(f"\0{name}" for name in self.annotators).encode())
        return digest.hexdigest()

    @property
    def origin(self) -> dict[str, Any]:
        """Where the set came from, apart from its source."""
        names = ("root", "listed", "noise", "flipped", "predictions", "aside", "annotators")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: Path) -> None:
        """Write names, labels, truth and rows as `<folder>.parquet`, the rest as `<folder>.json`;
        images stay where they are.
        """
        images = None
        if self.images:
            path = self.images.path or environment.cache() / "arrays" / f"{self.images.digest}.npy"
            if not processes.agree(path.exists()):
                arrays.write(path, self.images.array)
            noise = self.images.noise and dataclasses.asdict(self.images.noise)
            images = {"path": str(path.absolute()), "digest": self.images.digest, "noise": noise}
            images["drawn"] = self.images.drawn
            images["native"] = self.images.native
            if self.images.originals is not None:
                images["originals"] = self.images.originals.to_json()
            if view := getattr(self.images, "view", None):
                images["view"] = dataclasses.asdict(view)
        columns = {"name": self.names, "label": self.labels.numpy(), "row": self.rows.numpy()}
        if self.truth is not None:
            columns["truth"] = self.truth.numpy()
        if self.votes is not None:
            columns |= {f"by {m}": given.numpy() for m, given in enumerate(self.votes.T)}
        if self.texts is not None:
            columns["text"] = self.texts
        if self.groups is not None:
            columns["group"] = self.groups.numpy()
        if self.images and isinstance(self.images.originals, Crops):
            places = [self.images.originals.places[row] for row in self.rows.tolist()]
            columns["box"] = pa.array(places, pa.list_(pa.float64(), 6))
        tables.write(folder.with_suffix(".parquet"), columns)
        about = {
            "images": images,
            "classes": self.classes,
            "source": self.source,
            "split": self.split,
        }
        files.write_json(
            folder.with_suffix(".json"), about | {"mean": self.mean, "std": self.std} | self.origin
        )

    def moved(self, folder: Path) -> bool:
        """Whether what `save` wrote there tells of other places than where this set lies now, or of
        other files that were set aside.
        """
        then = read_json(folder.with_suffix(".json"), images=(dict, None))
        kept, originals = then["images"], self.images and self.images.originals
        here = self.origin | {"originals": originals and originals.to_json()}
        there = {name: then.get(name) for name in self.origin}
        there["originals"] = kept and kept.get("originals")
        gone = bool(kept) and not Path(kept["path"]).exists()
        return gone or json.dumps(here, sort_keys=True) != json.dumps(there, sort_keys=True)

    @classmethod
    def restore(cls, folder: Path) -> Dataset:
        """What `save` wrote. Raises InputError where it is damaged."""
        fields = {"classes": list, "source": str, "split": str, "mean": list, "std": list}
        path, rows_path = folder.with_suffix(".json"), folder.with_suffix(".parquet")
        about = read_json(path, images=(dict, None), **fields)
        table = read_table(rows_path, name="string", label="int", row="int")
        column = {name: table[name].combine_chunks() for name in table.column_names}
        try:
            images = about["images"]
            if images:
                noise = images.get("noise") and Perturbation(
                    **images["noise"] | {"std": tuple(images["noise"]["std"])}
                )
                kind = Packed if images.get("drawn", True) else Vectors
                packed = kind.open(Path(images["path"]), str(images["digest"]), noise)
                originals = restored(images.get("originals") or {}, about.get("root"), column)
                packed = packed.of(originals, images.get("native") or (0, 0))
                view = images.get("view")
                images = shown(packed, View(**view), kept=True) if view else packed
            mean, std = (tuple(map(float, about[name])) for name in ("mean", "std"))
            origin = renames.origin(about)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            raise Damaged(path, f"{type(error).__name__} {error}", LOST) from None
        count = len(about["classes"])
        ends = {"label": (0, count), "row": (0, len(images.array) if images else 1 << 62)}
        by = [f"by {number}" for number in range(len(origin["annotators"]))]
        if lost := [name for name in by if name not in column]:
            raise Damaged(rows_path, f"there is no column '{lost[0]}'", LOST)
        for name, (low, high) in (ends | dict.fromkeys(["truth", *by], (-1, count))).items():
            if name in column:
                values = column[name].to_numpy()
                if len(values) and not low <= values.min() <= values.max() < high:
                    raise Damaged(rows_path, f"column '{name}' goes outside {low}..{high}", LOST)
        return cls(
            images or None,
            torch.tensor(column["label"].to_numpy()).long(),
            tuple(map(str, about["classes"])),
            column["name"].cast(pa.string()),
            torch.tensor(column["row"].to_numpy()).long(),
            torch.tensor(column["truth"].to_numpy()).long() if "truth" in column else None,
            about["source"],
            about["split"],
            mean,
            std,
            votes=torch.tensor(np.stack([column[name] for name in by], 1)).long() if by else None,
            groups=_groups(column, rows_path),
            texts=column["text"].cast(pa.string()) if "text" in column else None,
            **origin,
        )


def _groups(column: Mapping[str, pa.Array], path: Path) -> Int[Tensor, " N"] | None:
    """The kept numbers of groups, where there are some."""
    if "group" not in column:
        return None
    if not pa.types.is_integer(column["group"].type):
        raise Damaged(path, f"column 'group' holds {column['group'].type}", LOST)
    return torch.tensor(column["group"].to_numpy(zero_copy_only=False)).long()


def _whole_numbers(values: Any, what: str) -> Int[Tensor, " N"]:
    """Class numbers from numpy, pandas, torch or lists.

    Raises InputError for words, fractions or an empty list.
    """
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    if (
        array.ndim != 1
        or not len(array)
        or array.dtype.kind not in "iufb"
        or (array != np.floor(array)).any()
    ):
        raise InputError(
            f"{what} must be a list of whole numbers, one an example; this is "
            f"{array.dtype} {list(array.shape)}"
        )
    return torch.from_numpy(array.astype("int64"))


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """Class names, those that stand more than once told apart by their number: `crane (134)`,
    `crane (517)`.
    """
    names = tuple(names)
    return tuple(
        name if names.count(name) == 1 else f"{name} ({number})"
        for number, name in enumerate(names)
    )
