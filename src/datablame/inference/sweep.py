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

BATCH = 512


def sweep(
    model: Classifier | Prepared, data: Dataset, read: Callable[[Tensor], Tensor], what: str
) -> Iterator[np.ndarray]:
    """`read(images)` of the whole set, a block of rows after the other, each process doing its part
    of a block.
    """
    steps = batches(torch.arange(len(data)), BATCH)
    for index in progress.track(steps, len(steps), what, "blocks"):
        mine = processes.shard(index)
        with torch.inference_mode():
            part = read(data.batch(mine)[0]).float()
        block = part.new_zeros(len(index), *part.shape[1:])
        start = int(mine[0] - index[0]) if len(mine) else 0
        block[start : start + len(mine)] = part
        yield processes.total(block).cpu().numpy()
