"""Cosine of the encoder's features, as in representer-free baselines.

Hanawa et al., 2021. arXiv:2006.04528

Formula: `cos(f_q, f_n)`.
When: pictures like the query are wanted, at once. It is the least faithful here, where retrained
models judge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset
from datablame.inference.features import features, gathered
from datablame.run import Run


class similarity:
    """The cosine, positive where the example has the query's label, negative where it has
    another.
    """

    def __init__(self, run: Run, queries: Dataset):
        self.run, self.queries = run, queries
        self.features = features(run)
        self.size, self.facts = 4 * self.features.shape[1], {"measure": "features"}

    def prepare(self, queries: Int[Tensor, " q"]) -> tuple[Float[Tensor, "q D"], Int[Tensor, " q"]]:
        images, labels = self.queries.batch(queries)
        with torch.inference_mode():
            return normalize(self.run.model.features(images).float()), labels

    def score(
        self, held: tuple[Float[Tensor, "q D"], Int[Tensor, " q"]], rows: Int[Tensor, " b"]
    ) -> Float[Tensor, "q b"]:
        features, labels = held
        mine = normalize(gathered(self.features, rows))
        same = labels[:, None] == self.run.data.labels[rows].to(labels.device)
        return features @ mine.T * torch.where(same, 1.0, -1.0)
