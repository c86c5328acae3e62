"""Features of an encoder that does not train: made once for an image, kept in the cache, and read
by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, devices, environment, files, folders, processes, progress
from datablame.base.errors import InputError
from datablame.base.images import Packed, Vectors
from datablame.base.parts import Part, Sliced
from datablame.base.readers import Damaged, read_array, read_tensors
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
PARTS = "parts"
"""Folder of the blocks that parts have made."""


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
        return arrays.fill(path, found.shape, "float16", found.blocks())
    with progress.stage("features"):
        return arrays.fill(
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
    folder, count = _folder(model, images), len(images.array)
    with folders.alone(folder, patient=True):
        done = arrays.mapped(folder / "done.npy", (count,), "uint8")
        if len(missing := _missing(data, done)):
            kept = arrays.mapped(folder / "features.npy", (count, model.dim), "float16")
            for path in sorted((folder / PARTS).glob("*.safetensors")):
                rows, halves = _block(path, kept.shape)
                kept[rows], done[rows] = halves, 1
            missing = _missing(data, done)
            with progress.stage("features"):
                for rows, halves in _swept(model, data, missing):
                    kept[rows], done[rows] = halves, 1
            for file in (kept, done):  # features first: what is marked as done is there
                file.flush() if isinstance(file, np.memmap) else None
            files.remove_folder(folder / PARTS)
        processes.wait()
    return Encoded(read_array(folder / "features.npy", (count, None), "f"), data.rows.numpy())


def share(model: Classifier, sets: Sequence[Dataset], part: Part) -> Sliced:
    """Of the features of sets what a part makes: every N-th block of images, a file each, which
    `encoded` puts into their place.
    """
    blocks = [
        (data, block)
        for data in sets
        for block in torch.from_numpy(np.unique(data.rows.numpy())).split(BLOCK)
    ]
    mine, written = part.mine(blocks), []
    with progress.stage("features"):
        for data, rows in mine:
            folder = _folder(model, data.pixels)
            path = folder / PARTS / f"{arrays.digest(rows.numpy())}.safetensors"
            done = np.zeros(len(data.pixels.array), "uint8")
            if processes.agree((folder / "done.npy").exists()):
                done = read_array(folder / "done.npy", done.shape, "u")
            missing = np.intersect1d(rows.numpy(), _missing(data, done))
            if not len(missing):
                continue
            written.append(str(path))
            if not processes.agree(path.exists()):
                found = [halves for _, halves in _swept(model, data, missing)]
                made = {"rows": missing, "features": np.concatenate(found)}
                arrays.write_tensors(path, {name: torch.from_numpy(x) for name, x in made.items()})
    return Sliced(part, "blocks of images, their features", written, len(blocks))


def _block(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(images, their features) of a part. Raises Damaged where they are not of this shape."""
    block, _ = read_tensors(path)
    rows, halves = (block.get(name, torch.zeros(0)).numpy() for name in ("rows", "features"))
    if halves.shape != (len(rows), shape[1]) or rows.dtype != "int64":
        raise Damaged(path, f"features {halves.shape} of {len(rows)} images")
    if not 0 <= rows.min() <= rows.max() < shape[0]:
        raise Damaged(path, "images that the set has not")
    return rows, halves


def _folder(model: Classifier, images: Packed) -> Path:
    """Where the features of these images by this encoder are kept."""
    assert isinstance(model.encoder, Frozen)
    how = f"{LAYOUT} {model.encoder.size}".encode()
    weights = [model.mean, model.std, *model.encoder.state_dict().values()]
    mark = arrays.digest(how, *(each.cpu().numpy() for each in weights))
    return environment.cache() / "features" / f"{images.seen}-{mark}"


def _missing(data: Dataset, done: np.ndarray) -> Int[np.ndarray, " m"]:
    """The images of a set that are not done, in ascending order, as rank 0 knows them."""
    missing = np.setdiff1d(data.rows.numpy(), np.flatnonzero(done))
    return np.array(processes.agree(missing.tolist()), "int64")


def _swept(
    model: Classifier, data: Dataset, images: Int[np.ndarray, " m"]
) -> Iterator[tuple[Int[np.ndarray, " b"], np.ndarray]]:
    """(images, their features in half precision) of some images of a set, in blocks."""
    place = torch.from_numpy(np.unique(data.rows.numpy(), return_index=True)[1])
    chosen = place[torch.isin(data.rows[place], torch.from_numpy(images))]
    for block in sweep(model, data.take(chosen), model.features, "features"):
        rows, images = images[: len(block)], images[len(block) :]
        yield rows, _halves(block, data)


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
