"""A sweep of a trained model over a set, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from datablame.base import processes, progress
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
    """`read(images)` of the whole set, a block of rows after the other, each process doing its part
    of a block.
    """
    _, height, width = data.shape
    fits = max(8, PIXELS // max(1, height * width))
    block = min(BATCH, fits) if processes.device().type == "cpu" else BATCH
    steps = batches(torch.arange(len(data)), block)

    def load(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mine = processes.shard(index)
        return index, mine, data.batch(mine)[0]

    loaded = map(load, steps) if data.pixels.there else ahead(load, steps)
    for index, mine, images in progress.track(loaded, len(steps), what, "blocks"):
        with torch.inference_mode():
            part = read(images).float()
        block = part.new_zeros(len(index), *part.shape[1:])
        start = int(mine[0] - index[0]) if len(mine) else 0
        block[start : start + len(mine)] = part
        yield processes.total(block).cpu().numpy()


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
