"""A sweep of a trained model over a set, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from datablame.base import devices, processes, progress
from datablame.base.hashing import batches
from datablame.dataset import Dataset
from datablame.network.classifier import Classifier, Prepared

T = TypeVar("T")
U = TypeVar("U")

BATCH, PIXELS = 512, 1 << 20
"""Images of a block, and pixels where a CPU looks at them: 20 images of 224x224, since its caches
hold no more (benchmarks: "Features of photographs")."""


def sweep(
    model: Classifier | Prepared, data: Dataset, read: Callable[[Tensor], Tensor], what: str
) -> Iterator[np.ndarray]:
    """`read(images)` of the whole set, a block of rows after the other, of which each process does
    its part. All are given to rank 0; to the others, which write nothing, no rows.
    """
    _, height, width = data.shape
    fits = max(8, PIXELS // max(1, height * width))
    block = min(BATCH, fits) if devices.device().type == "cpu" else BATCH
    steps = batches(torch.arange(len(data)), block * processes.size())
    mine = [processes.shard(index) for index in steps]
    loaded = zip(steps, fetched(data, mine), strict=True)
    for index, images in progress.track(loaded, len(steps), what, "blocks"):
        with torch.inference_mode():
            part = read(images).float()
        yield processes.collected(part, len(index)).cpu().numpy()


def fetched(data: Dataset, every: Sequence[Tensor]) -> Iterator[Tensor]:
    """The images of each batch of rows, on the device. Those that do not lie in a GPU's memory are
    gathered, or decoded, by a thread while the device works on the ones before; elsewhere there is
    nothing to win by it.
    """
    if devices.device().type != "cuda" or data.pixels.there:
        return (data.batch(rows)[0] for rows in every)
    places = [data.rows_at(rows) for rows in every]
    coming = zip(ahead(data.pixels.fetched, places), places, strict=True)
    return (data.pixels.arrived(images, rows) for images, rows in coming)


def ahead(load: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """`load(item)` of each, in order; the next one is made by a thread while the last is used."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        coming = None
        for item in items:
            last, coming = coming, pool.submit(load, item)
            if last is not None:
                yield last.result()
        if coming is not None:
            yield coming.result()
