"""GradientProducts products of gradients: queries times the inverse curvature, met with the
gradients of training examples.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datablame.base import devices, processes, progress
from datablame.base.hashing import batches
from datablame.base.shapes import Float, Int
from datablame.dataset import Dataset
from datablame.influence.factors import Factors, loss, measure, weigher
from datablame.influence.fisher import PRECISIONS
from datablame.layers.taps import finite
from datablame.run import Run

MANY = 256
"""Queries from which on their product with the gradients takes most of the time, and wants larger
batches."""
Held = list[list[Tensor]]
"""For each term, each layer's preconditioned gradients `[q,P]`."""


class GradientProducts:
    """`sum_terms weight * g_q^T (F + damping)^-1 g_n`, a term for each model that is asked; `of` is
    the scalar of the query.
    """

    def __init__(self, run: Run, queries: Dataset, terms: list[tuple[float, Factors]], of: str):
        self.run, self.queries, self.terms, self.of = run, queries, terms, measure(of)
        self.size = sum(4 * sum(factors.widths) for _, factors in terms)
        first = terms[0][1]
        self.facts: dict[str, Any] = {
            "measure": of,
            "curvature": first.fisher.fitted | {"damping": first.fisher.damping},
            "precision": {name: getattr(first.fisher, name) for name in PRECISIONS},
            "weights": first.size,
            "effective_dimension": first.effective,
            "untracked": first.layers.untracked,
        }

    def prepare(self, queries: Int[Tensor, " q"]) -> Held:
        """The queries' gradients times the inverse curvature, filled in block by block; each
        process solves its part, and all get the others'.
        """
        held: Held = []
        mine = processes.shard(queries)
        with torch.no_grad(), progress.stage("queries"):
            for _, factors in self.terms:
                kind = devices.KINDS[factors.fisher.scores]
                solved = [
                    torch.zeros(len(mine), width, dtype=kind, device=devices.device())
                    for width in factors.widths
                ]
                for index in batches(torch.arange(len(mine)), factors.batch):
                    images, labels = self.queries.batch(mine[index])
                    out = [each[int(index[0]) : int(index[-1]) + 1] for each in solved]
                    factors.solve(images, weigher(self.of, labels), out)
                    finite(
                        torch.stack([part.float().sum(1) for part in out]), mine[index], "queries"
                    )
                held.append([processes.together(part, len(queries)) for part in solved])
        return held

    def score(self, held: Held, rows: Int[Tensor, " b"]) -> Float[Tensor, "q b"]:
        """The held queries against these training rows with their given labels, a batch at a
        time.
        """
        scores = torch.zeros(len(held[0][0]), len(rows), device=devices.device())
        with torch.no_grad(), progress.stage("pairwise"):
            factors = self.terms[0][1]
            size = factors.batch if len(scores) < MANY else min(factors.room, 4 * factors.batch)
            for index in batches(torch.arange(len(rows)), size):
                images, labels = self.run.data.batch(rows[index])
                for (weight, factors), whole in zip(self.terms, held, strict=True):
                    scores[:, index] += weight * factors.products(
                        whole, images, weigher(loss, labels)
                    )
        finite(scores, rows, "training images")
        return scores
