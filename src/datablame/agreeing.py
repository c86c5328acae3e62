"""Agreeing: how closely signals or links that should say the same do, such as a lower precision with the full one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datablame import asking, scoring
from datablame.evidence.index import found, spearman
from datablame.ground import draw, plug
from datablame.ground.errors import InputError
from datablame.run import Run


def agreement(run: Run, names: Sequence[str], queries: int = 16, rows: int = 1000) -> dict[str, dict[str, float]]:
    """Pearson and Spearman correlation of each named signal, or link, with the first, and the share of its top 10 (of all, or of each query).

    Signals are compared on all training rows, links on test queries against a sample of training rows.
    """
    if len(names) < 2:
        raise InputError("name two or more signals, or two or more links: the others are compared with the first")
    signals = plug.parse(names[0])[0] not in plug.names("links")
    values = [scoring.scored(run, name).values[None] if signals else sample(run, name, queries, rows) for name in names]
    return {name: close(values[0], each) for name, each in zip(names[1:], values[1:], strict=True)}


def sample(run: Run, link: str, queries: int, rows: int) -> Tensor:
    """`[Q, n]`: the first test queries against a fixed sample of the training rows."""
    asked = asking.of_test(run, queries)
    pairs = plug.find("links", link)(run, asked)
    chosen = draw.permutation(len(run.data), "agree")[:rows]
    return pairs.meet(pairs.hold(torch.arange(len(asked))), chosen).cpu()


def close(a: Tensor, b: Tensor) -> dict[str, float]:
    """Means over queries."""
    ten = min(10, a.shape[1])
    return {
        "pearson": float(np.mean([np.corrcoef(x, y)[0, 1] for x, y in zip(a.numpy(), b.numpy(), strict=True)])),
        "spearman": float(np.mean([spearman(x, y) for x, y in zip(a, b, strict=True)])),
        "top10": found(b.topk(ten, 1).indices, a.topk(ten, 1).indices),
    }
