"""Features of an encoder that does not train: made once for an image, kept in the cache, and read
by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from datablame.base import devices, files, processes, progress
from datablame.base.errors import InputError
from datablame.base.images import Vectors
from datablame.base.readers import read_array
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset
from datablame.inference.sweep import sweep
from datablame.network.classifier import Classifier, Prepared
from datablame.network.frozen import Frozen
from datablame.run import Run

BLOCK = 4096
"""Rows of kept features that are looked at together."""
LAYOUT = 2
"""Of the features in the cache, and of how they are made."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """Rows of a memory-mapped float16 array of features `[images, D]`: row i of a set is its row
    `rows[i]`.
    """

    array: np.ndarray
    rows: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.rows), self.array.shape[1]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        return self.array[self.rows[index]]

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows in order, some thousands at a time."""
        for start in range(0, len(self.rows), BLOCK):
            yield self[start : start + BLOCK]

    def at(self, index: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        return gathered(self, index)


def gathered(features: np.ndarray | Encoded, rows: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
    """Features of these rows in single precision, on the device."""
    return torch.from_numpy(np.asarray(features[rows.cpu().numpy()], "float32")).to(
        devices.device()
    )


def is_frozen(model: Classifier | Prepared) -> TypeGuard[Classifier]:
    """Whether the encoder is one that does not train."""
    return isinstance(model, Classifier) and isinstance(model.encoder, Frozen)


def answers(
    model: Classifier | Prepared, data: Dataset
) -> Callable[[Int[Tensor, " B"]], Float[Tensor, "B K"]]:
    """What the model says of rows of a set, as logits on the device: by the features that are kept,
    where its encoder does not train.
    """
    if not is_frozen(model):
        return lambda rows: model(data.batch(rows)[0])
    kept = encoded(model, data)
    return lambda rows: model.answer(kept.at(rows))


def spoken(model: Classifier, data: Dataset) -> Iterator[np.ndarray]:
    """Probabilities of a whole set, in blocks of rows, by the features that are kept; for rank 0
    alone.
    """
    said = answers(model, data)
    for rows in torch.arange(len(data)).split(BLOCK * processes.size()):
        with torch.inference_mode():
            p = said(processes.shard(rows)).softmax(1)
        yield processes.collected(p, len(rows)).cpu().numpy()


def features(run: Run, model: Classifier | Prepared | None = None) -> np.ndarray:
    """float16 [N,D], memory-mapped: what the encoder makes of each training image; of this model,
    before the run has one.
    """
    return kept(run, "features", model, run.data)


def test_features(run: Run) -> np.ndarray:
    """float16 [n,D], memory-mapped, of each test image.

    Raises InputError where the run has none.
    """
    if run.test is None:
        raise InputError(f"{run.path} has no test split")
    return kept(run, "test_features", None, run.test)


def kept(run: Run, name: str, model: Classifier | Prepared | None, data: Dataset) -> np.ndarray:
    path = run.path / f"{name}.npy"
    if files.sound(path, read := lambda path: read_array(path, (len(data), None), "f")):
        return read(path)
    model = model or run.model
    if is_frozen(model):
        found = encoded(model, data)
        return files.fill(path, found.shape, "float16", found.blocks())
    with progress.stage("features"):
        return files.fill(
            path, (len(data), model.dim), "float16", sweep(model, data, model.features, "features")
        )


def encoded(model: Classifier, data: Dataset) -> Encoded:
    """What the encoder makes of the images of a set; those that it has seen before are read from
    the cache. Resumes where it was stopped.

    Raises InputError for an encoder that gives no numbers.
    """
    images = data.pixels
    if isinstance(images, Vectors):
        return Encoded(images.array[:, :, 0, 0], data.rows.numpy())
    assert isinstance(model.encoder, Frozen)
    how = f"{LAYOUT} {model.encoder.size}".encode()
    weights = [model.mean, model.std, *model.encoder.state_dict().values()]
    folder = (
        files.cache()
        / "features"
        / f"{images.seen}-{files.digest(how, *(w.cpu().numpy() for w in weights))}"
    )
    count = len(images.array)
    with files.alone(folder, patient=True):
        done = files.open_array(folder / "done.npy", (count,), "uint8")
        missing = np.setdiff1d(data.rows.numpy(), np.flatnonzero(done))
        missing = np.array(processes.agree(missing.tolist()), "int64")
        if len(missing):
            kept = files.open_array(folder / "features.npy", (count, model.dim), "float16")
            place = torch.from_numpy(np.unique(data.rows.numpy(), return_index=True)[1])
            new = place[torch.isin(data.rows[place], torch.from_numpy(missing))]
            with progress.stage("features"):
                for block in sweep(model, data.take(new), model.features, "features"):
                    rows, missing = missing[: len(block)], missing[len(block) :]
                    kept[rows] = _halves(block, data)
                    done[rows] = 1
            for file in (kept, done):  # features first: what is marked as done is there
                file.flush() if isinstance(file, np.memmap) else None
        processes.wait()
    return Encoded(read_array(folder / "features.npy", (count, None), "f"), data.rows.numpy())


def _halves(block: np.ndarray, data: Dataset) -> np.ndarray:
    """Features in half precision. Raises InputError where one is not finite, or out of range."""
    with np.errstate(over="ignore"):
        halves = block.astype("float16")
    if not np.isfinite(halves).all():
        raise InputError(
            f"the encoder gives numbers for images of {data.source} that are not finite, or above "
            "65,504; are its weights damaged?"
        )
    return halves
