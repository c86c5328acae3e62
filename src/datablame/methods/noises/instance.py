"""Wrong labels where a simple model doubts, as people err: after the model-made noise of Chen et
al., 2021. arXiv:2012.05458

Formula: `P(k | x) by a regression that did not see x`.
When: noise should be where people err, not anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, one_hot

from datablame.base import hashing
from datablame.base.errors import InputError
from datablame.base.shapes import Float
from datablame.data.label_flips import flipped
from datablame.dataset import Dataset

FOLDS, SIDE, RIDGE = 5, 8, 10.0


def instance(
    data: Dataset, amount: float = 0.2, seed: int = 0, exact: bool = True, width: int = 1000
) -> Dataset:
    """The harder an image is for ridge regression on `width` random features, the likelier its
    label is wrong; the class is drawn by the regression's probabilities. Each image is looked at by
    a regression that did not see it."""
    if data.images is None:
        raise InputError(f"noise by image needs images, and {data.source} has none")
    probability = opinion(data, seed, width)
    own = probability.gather(1, data.labels[:, None])[:, 0]
    others = probability.scatter(1, data.labels[:, None], 0)
    at = hashing.uniform(torch.arange(len(data)), "class", seed)[:, None] * others.sum(
        1, keepdim=True
    )
    wrong = (others.cumsum(1) <= at).sum(1).clamp_max(len(data.classes) - 1)
    return flipped(data, wrong, amount, seed, exact, (1 - own).clamp_min(1e-6))


def opinion(data: Dataset, seed: int, width: int) -> Float[Tensor, "N K"]:
    """What a ridge regression on random features of small pictures thinks of each image that it did
    not see.
    """
    parts = [data.batch(rows)[0].cpu().float() for rows in torch.arange(len(data)).split(4096)]
    small = torch.cat([adaptive_avg_pool2d(part, SIDE).flatten(1) for part in parts])
    small = (small - small.mean(0)) / small.std(0).clamp_min(1e-3)
    generator = torch.Generator().manual_seed(hashing.seed_of("instance", seed))
    directions = torch.randn(small.shape[1], width, generator=generator) / small.shape[1] ** 0.5
    features = torch.cat([(small @ directions).relu(), torch.ones(len(small), 1)], 1).double()
    targets = one_hot(data.labels, len(data.classes)).double()
    fold = (hashing.uniform(torch.arange(len(data)), "fold", seed) * FOLDS).long()
    probability = torch.zeros_like(targets)
    for part in range(FOLDS):
        seen = features[fold != part]
        gram = seen.T @ seen + RIDGE * torch.eye(seen.shape[1], dtype=torch.double)
        probability[fold == part] = features[fold == part] @ torch.linalg.solve(
            gram, seen.T @ targets[fold != part]
        )
    probability = probability.clamp_min(1e-3)
    return (probability / probability.sum(1, keepdim=True)).float()
