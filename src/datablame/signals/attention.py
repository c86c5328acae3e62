"""Attention at odds with the labels: a wrong label is pointed at by images of another class. After La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datablame.evidence.recall import BLOCK, Recall
from datablame.ground import clock, draw, world
from datablame.ground.errors import InputError, unknown
from datablame.run import Run


def attention(run: Run, way: str = "both", memories: int = 4, queries: int = 5_000) -> Float[Tensor, " N"]:
    """The share of its attention that binds an image to other labels: what it gets from other training images, what it pays to them, or the mean.

    `way`: received, from `queries` of them, an image that none looks at having their mean; paid; or both. Over random memories, each image in
    `memories` of them, never in its own.
    """
    if way not in ("received", "paid", "both"):
        raise unknown("way of attention", way, ("received", "paid", "both"))
    if memories < 1 or queries < 1:
        raise InputError(f"one memory and one query or more are needed; {memories} and {queries} were asked")
    recall, labels = Recall.of(run), run.data.labels.to(world.device())
    count = len(labels)
    some = draw.permutation(count, "pointing", run.recipe.seed)[: count if way != "received" else queries]
    total, other = torch.zeros(2, count, device=labels.device)
    paid = torch.zeros(count, device=labels.device)
    blocks = some.split(max(1, BLOCK // count))
    with clock.stage("attention"):
        done = 0
        for rows in clock.track(blocks, len(blocks), "attention", "blocks"):
            weights = recall.attention(recall.at(rows), memories, rows)
            differs = labels[rows.to(labels.device), None] != labels
            wrong = weights * differs
            paid[rows.to(labels.device)] = wrong.sum(1) / weights.sum(1).clamp_min(1e-12)
            use = max(0, min(len(rows), queries - done))
            total += weights[:use].sum(0)
            other += wrong[:use].sum(0)
            done += len(rows)
    received = torch.where(total > 0, other / total.clamp_min(1e-12), other.sum() / total.sum())
    return {"received": received, "paid": paid, "both": (received + paid) / 2}[way].cpu()
