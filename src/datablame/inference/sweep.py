"""A sweep of a trained model over a set, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from datablame.base import processes, progress
from datablame.base.hashing import batches
from datablame.dataset import Dataset
from datablame.network.classifier import Classifier, Prepared

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
    for index in progress.track(steps, len(steps), what, "blocks"):
        mine = processes.shard(index)
        with torch.inference_mode():
            part = read(data.batch(mine)[0]).float()
        block = part.new_zeros(len(index), *part.shape[1:])
        start = int(mine[0] - index[0]) if len(mine) else 0
        block[start : start + len(mine)] = part
        yield processes.total(block).cpu().numpy()
