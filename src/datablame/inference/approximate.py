"""Nearest rows among very many, by an index: rows lie in cells, and a few cells are looked into.

Johnson, Douze, Jegou, 2017. Billion-scale similarity search with GPUs. arXiv:1702.08734 (faiss)
"""

from __future__ import annotations

import importlib.util

import torch
from torch import Tensor

from datablame.base import hashing, progress
from datablame.base.shapes import Float, Int

ROWS = 200_000
"""Above which an index is asked, on a CPU."""
RECALL, ASKED = 0.98, 1000
"""Of the nearest rows, the share to be found among those of rows that are looked up exactly too."""
SAMPLE = 64
"""Rows a cell from which the cells are made."""
INSTALL = "pip install 'datablame[index]'"
BLOCK, AT_ONCE = 4096, 1 << 26
"""Rows that are looked up together, and cosines held at a time."""


def wanted(space: Float[Tensor, "N D"]) -> bool:
    """Whether an index is asked; says how to get it, where it is not there."""
    if len(space) <= ROWS or space.device.type != "cpu":
        return False
    if not there():
        progress.say(
            f"{len(space):,} rows are compared with each other; an index is faster: {INSTALL}"
        )
    return there()


def there() -> bool:
    """Whether an index can be asked."""
    return importlib.util.find_spec("faiss") is not None


def nearest(
    space: Float[Tensor, "N D"], rows: Int[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """(cosines, rows) of the `k` nearest other rows of some, the nearest first; `space` has rows of
    length one. Looks into more cells until RECALL is reached, and says what was.
    """
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    number, dim = space.shape
    cells = round(4 * number**0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    some = hashing.some(number, min(number, SAMPLE * cells), "cells")
    index.train(space[some].numpy())
    index.add(space.numpy())
    asked = hashing.some(number, min(number, ASKED), "asked")
    some = asked.split(max(1, AT_ONCE // number))
    right = torch.cat([_others(*(space[each] @ space.T).topk(k + 1), each)[1] for each in some])
    index.nprobe, recall = 8, 0.0
    while True:
        found = _looked(index, space, asked, k)[1]
        recall = float((found[:, :, None] == right[:, None, :]).any(1).float().mean())
        if recall >= RECALL or index.nprobe >= cells:
            break
        index.nprobe = min(2 * index.nprobe, cells)
    progress.say(
        f"neighbours by an index: {recall:.1%} of the {k} nearest are found (of {len(asked):,} "
        f"rows that were looked up exactly), in {index.nprobe:,} of {cells:,} cells"
    )
    blocks = rows.split(BLOCK)
    parts = [
        _looked(index, space, block, k)
        for block in progress.track(blocks, len(blocks), "neighbours", "blocks")
    ]
    return torch.cat([each for each, _ in parts]), torch.cat([each for _, each in parts])


def _looked(
    index: object, space: Float[Tensor, "N D"], rows: Int[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    cosine, found = index.search(space[rows].numpy(), k + 1)  # type: ignore[attr-defined]  # faiss
    return _others(torch.from_numpy(cosine), torch.from_numpy(found), rows)


def _others(
    cosine: Float[Tensor, "n m"], found: Int[Tensor, "n m"], rows: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Without the row itself, or the last where it is not among them; where fewer were found, the
    nearest stands for them.
    """
    own = found == rows[:, None]
    own[~own.any(1), -1] = True
    keep = (~own).nonzero()[:, 1].view(len(rows), -1)
    cosine, found = cosine.gather(1, keep), found.gather(1, keep)
    lost = found < 0
    return (
        torch.where(lost, cosine[:, :1], cosine),
        torch.where(lost, found[:, :1], found),
    )
