"""Attention of a head with a memory, averaged over memories.

La Rosa, Capobianco, Nardi, 2021 (section 3). arXiv:2106.01440

Formula: `E[w_qn | n in the memory]`.
When: the model has a head with a memory: its weights are what the answer is made of.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base.errors import at_least
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset
from datablame.inference.memory import MemoryBank
from datablame.run import Run


class memory_wrap:
    """The mean weight of each training image in the random memories that hold it; negative where
    its label is not the query's.
    """

    def __init__(self, run: Run, queries: Dataset, memories: int = 10):
        at_least(1, memories=memories)
        self.recall, self.queries, self.memories = MemoryBank.of(run), queries, memories
        self.size = 64 * len(run.data)
        self.facts = {"measure": "attention", "memories": memories}

    def prepare(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q N"]:
        return torch.cat([self.attention(part) for part in queries.split(64)])

    @torch.inference_mode()
    def attention(self, queries: Int[Tensor, " q"]) -> Float[Tensor, "q N"]:
        images, labels = self.queries.batch(queries)
        weights = self.recall.attention(self.recall.run.model.features(images), self.memories)
        same = labels[:, None] == self.recall.run.data.labels.to(labels.device)
        return weights * torch.where(same, 1.0, -1.0)

    def score(self, held: Float[Tensor, "q N"], rows: Int[Tensor, " b"]) -> Float[Tensor, "q b"]:
        return held[:, rows.to(held.device)]
