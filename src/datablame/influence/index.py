"""The index: the leading block of every example's rotated gradient, int8, in one pass that is
cheaper than a training step.

Per layer `R_n = U_p^T G_n V_r`, the p x r block of the EK-FAC basis with the most curvature; a
query's score against the block is `sum_layers (R_q / (eigenvalues + damping)) . R_n`, which is the
exact score's own restriction to it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, devices, files, hashing, processes, progress, readers
from datablame.base.errors import InputError, at_least
from datablame.base.hashing import batches
from datablame.base.results import Result
from datablame.base.shapes import Float, Int, Int8
from datablame.dataset import Dataset
from datablame.influence.factors import Factors, flat, loss, measure, weigher
from datablame.influence.products import GradientProducts
from datablame.layers.taps import Tap, Weigh, folded

BLOCK = 4096
"""Rows of the index read at a time."""
TOGETHER = 16
"""Batches of each process whose rows are sent together: at each message all wait for the last."""
SAMPLE = (32, 1024)
"""Queries and training rows on which the index is compared with the exact scores."""


class Index(Result):
    """`codes.npy` int8 `[N, k + 4 L]`: k codes, then one float32 scale for each of L layers as
    bytes; read by memory map.
    """

    def __init__(self, factors: Factors, block: int = 64):
        if factors.fisher.kind != "ekfac":
            raise InputError(
                f"the index is cut from the basis of ekfac; got kind={factors.fisher.kind}"
            )
        at_least(1, block=block)
        self.run, self.factors, self.block = factors.run, factors, block
        self.left, self.right, self.weights = {}, {}, []
        for layer in self.factors.layers.every:
            curvature = self.factors.curvature[layer]
            self.left[layer] = curvature.kept["left"][:, :, -block:].contiguous()
            self.right[layer] = curvature.kept["right"][:, :, -block:].contiguous()
            self.weights.append(curvature.weight[:, -block:, -block:].flatten())
        self.sizes = [len(weight) for weight in self.weights]

    def to_json(self) -> dict[str, Any]:
        facts = {
            "examples": len(self.codes),
            "bytes_an_example": self.codes.shape[1],
            "index": str(self.folder),
        }
        return facts | self.agreement()

    @property
    def batch(self) -> int:
        """Examples tapped at a time: no weight's gradient is written out, so twice what curvature
        takes.
        """
        return min(self.factors.room, 2 * self.factors.batch)

    @property
    def folder(self) -> Path:
        kind = self.factors.fisher.gradients
        stem = self.factors.path.stem + ("" if kind == "fp32" else f"-{kind}")
        return self.run.path / "index" / f"{stem}-{self.block}"

    @functools.cached_property
    def codes(self) -> np.ndarray:
        """The index itself, made if it is not there."""
        with progress.stage("index"):
            return arrays.fill(
                self.folder / "codes.npy", (len(self.run.data), self.width), "int8", self._coded()
            )

    @property
    def width(self) -> int:
        """Bytes an example: codes, and a scale a layer."""
        return sum(self.sizes) + 4 * len(self.sizes)

    def _coded(self) -> Iterator[np.ndarray]:
        """Rows of the index, a block of training examples after the other, for rank 0."""
        nothing = torch.zeros(0, self.width, dtype=torch.int8, device=devices.device())
        together = self.batch * processes.size() * (TOGETHER if processes.size() > 1 else 1)
        steps = batches(torch.arange(len(self.run.data)), together)
        for index in progress.track(steps, len(steps), "indexing", "blocks"):
            mine = batches(processes.shard(index), self.batch)
            part = torch.cat([nothing, *map(self.rows, mine)])
            yield processes.collected(part, len(index)).cpu().numpy()

    def rows(self, index: Int[Tensor, " B"]) -> Int8[Tensor, "B m"]:
        """The index's rows of these training examples: codes, then scales."""
        images, labels = self.run.data.batch(index)
        rotated = self.rotated(images, weigher(loss, labels))
        return torch.cat(_quantised(rotated.split(self.sizes, 1)), 1)

    def rotated(self, images: Tensor, weigh: Weigh) -> Float[Tensor, "B k"]:
        """The leading blocks of each example's gradient, all layers side by side; no gradient is
        ever written out.
        """
        parts = [images.new_zeros(len(images), size, dtype=torch.float32) for size in self.sizes]
        to = dict(zip(self.factors.layers.every, parts, strict=True))

        def each(tap: Tap) -> None:
            g = folded(tap.g, self.left[tap.layer].to(tap.g.dtype))
            to[tap.layer].copy_(
                flat(g.mT @ tap.layer.project(tap.x, self.right[tap.layer].to(tap.x.dtype)))
            )

        self.factors.tap(images, weigh, self.factors.fisher.gradients, each)
        return torch.cat(parts, 1)

    def asked(self, queries: Dataset, of: str) -> Float[Tensor, "Q k"]:
        """The queries' blocks times the inverse curvature."""
        parts = []
        for index in batches(torch.arange(len(queries)), self.batch):
            images, labels = queries.batch(index)
            parts.append(self.rotated(images, weigher(measure(of), labels)))
        return torch.cat(parts) * torch.cat(self.weights)

    def scores(self, asked: Float[Tensor, "Q k"]) -> Float[Tensor, "Q N"]:
        """Every asked query against every training example, in the unit of `influence`."""
        n, k = len(self.codes), sum(self.sizes)
        whole = torch.empty(len(asked), n)
        column = torch.repeat_interleave(torch.arange(len(self.sizes)), torch.tensor(self.sizes))
        for low in range(0, n, BLOCK):
            part = torch.from_numpy(np.array(self.codes[low : low + BLOCK]))
            scale = part[:, k:].contiguous().view(torch.float32)
            values = part[:, :k].to(asked.device).float().mul_(scale[:, column].to(asked.device))
            whole[:, low : low + BLOCK] = (asked @ values.T).cpu()
        return whole / n

    def _candidates(self, rerank: int) -> int:
        """How many of the highest, and of the lowest, are scored again: as requested, or a
        hundredth of the set and at least 64.
        """
        return rerank or max(64, len(self.run.data) // 100)

    def search(
        self, queries: Dataset, of: str, keep: int, rerank: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """(training rows, exact scores) `[Q, 2 keep]` of the `keep` highest and lowest, found among
        the `rerank` highest and lowest of the index.
        """
        asked = self.scores(self.asked(queries, of))
        count = min(max(self._candidates(rerank), keep), len(self.run.data) // 2)
        keep = min(keep, count)
        inner = GradientProducts(self.run, queries, [(1 / len(self.run.data), self.factors)], of)
        rows, values = [], []
        for number, row in enumerate(asked):
            order = row.argsort(descending=True, stable=True)
            found = torch.cat([order[:count], order[-count:]]).unique()
            exact = inner.score(inner.prepare(torch.tensor([number])), found)[0].cpu()
            best = exact.argsort(descending=True, stable=True)
            best = torch.cat([best[:keep], best[-keep:]])
            rows.append(found[best].numpy())
            values.append(exact[best].numpy())
        return np.stack(rows), np.stack(values)

    def agreement(self, of: str = "margin", rerank: int = 0) -> dict[str, Any]:
        """How closely the index agrees with the exact scores on a sample: Spearman of all pairs of
        a query (mean), and the share of the exact top 10 that the index has among its own top 10,
        and among the `rerank` highest that are ranked again exactly."""

        def measured() -> dict[str, Any]:
            source = self.run.test if self.run.test is not None else self.run.data
            queries, rows = (
                hashing.permutation(len(d), "agree")[:n]
                for d, n in zip((source, self.run.data), SAMPLE, strict=True)
            )
            inner = GradientProducts(
                self.run, source.take(queries), [(1 / len(self.run.data), self.factors)], of
            )
            exact = inner.score(inner.prepare(torch.arange(len(queries))), rows).cpu()
            close = self.scores(self.asked(source.take(queries), of))[:, rows]
            ten = min(10, len(rows))
            share = round(self._candidates(rerank) * len(rows) / len(self.run.data))
            share = min(max(ten, share), len(rows))
            best = exact.topk(ten, 1).indices
            return {
                "queries": len(queries),
                "rows": len(rows),
                "spearman": float(
                    np.mean([spearman(a, b) for a, b in zip(exact, close, strict=True)])
                ),
                "top10_before": found(close.topk(ten, 1).indices, best),
                "top10_after": found(close.topk(share, 1).indices, best),
                "reranked_share": share / len(rows),
            }

        path = self.folder / f"agreement-{of}-{self._candidates(rerank)}.json"
        if not processes.agree(path.exists()):
            with progress.stage("agreement"):
                files.write_json(path, measured())
        return readers.read_json(path)


def found(candidates: Int[Tensor, "Q m"], best: Int[Tensor, "Q ten"]) -> float:
    """Share of the best that are among the candidates."""
    return float((candidates[:, :, None] == best[:, None]).any(1).float().mean())


def spearman(a: Float[Tensor, " n"], b: Float[Tensor, " n"]) -> float:
    """Rank correlation."""
    from scipy.stats import rankdata

    return float(np.corrcoef(rankdata(a.numpy()), rankdata(b.numpy()))[0, 1])


def _quantised(parts: tuple[Float[Tensor, "B _"], ...]) -> list[Int8[Tensor, "B _"]]:
    """Each layer's codes, then the scale of each layer as the bytes of a float32."""
    scales = [part.abs().amax(1, keepdim=True).clamp_min(1e-30) / 127 for part in parts]
    codes = [
        (part / scale).round_().to(torch.int8) for part, scale in zip(parts, scales, strict=True)
    ]
    return [*codes, torch.cat(scales, 1).float().contiguous().view(torch.int8)]
