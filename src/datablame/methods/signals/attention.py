"""Attention from other labels: an image with a wrong one is pointed at for the wrong class.

After La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440

Formula: `sum_q w_qn [y_q != y_n] / sum_q w_qn`.
When: a head with a memory was trained (`--head memory_wrap`); whoever looked at the image can be
shown beside it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base import devices, hashing, processes, progress
from datablame.base.errors import at_least
from datablame.base.shapes import Float
from datablame.inference.memory import BLOCK, MemoryBank
from datablame.run import Run


def attention(run: Run, memories: int = 4, queries: int = 5_000) -> Float[Tensor, " N"]:
    """The share of the attention that an image gets, in `memories` random ones or a few more, which
    comes from images of another label.

    `queries`: how many training images look, never at themselves. Images that receive no attention
    get the overall mean.
    """
    at_least(1, memories=memories, queries=queries)
    recall, labels = MemoryBank.of(run), run.data.labels.to(devices.device())
    some = hashing.permutation(len(labels), "pointing", run.recipe.seed)[:queries]
    blocks = processes.shard(some).split(max(1, BLOCK // len(labels)))
    total, other = torch.zeros(2, len(labels), device=labels.device)
    with progress.stage("attention"):
        for rows in progress.track(blocks, len(blocks), "attention", "blocks"):
            weights = recall.attention(recall.at(rows), memories, rows)
            total += weights.sum(0)
            other += (weights * (labels[rows.to(labels.device), None] != labels)).sum(0)
    total, other = processes.total(total), processes.total(other)
    return torch.where(total > 0, other / total.clamp_min(1e-12), other.sum() / total.sum()).cpu()
