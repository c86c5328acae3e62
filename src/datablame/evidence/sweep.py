"""A sweep of a trained model over a set, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from datablame.classifier import Classifier, Prepared
from datablame.dataset import Dataset
from datablame.ground import clock, world
from datablame.ground.draw import batches

BATCH = 512


def sweep(
    model: Classifier | Prepared, data: Dataset, read: Callable[[Tensor], Tensor], what: str
) -> Iterator[np.ndarray]:
    """`read(images)` of the whole set, a block of rows after the other, each process doing its part of a block."""
    steps = batches(torch.arange(len(data)), BATCH)
    for index in clock.track(steps, len(steps), what, "blocks"):
        mine = world.shard(index)
        with torch.inference_mode():
            part = read(data.batch(mine)[0]).float()
        block = part.new_zeros(len(index), *part.shape[1:])
        start = int(mine[0] - index[0]) if len(mine) else 0
        block[start : start + len(mine)] = part
        yield world.total(block).cpu().numpy()
