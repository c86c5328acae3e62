"""What the labels of an example's nearest neighbours say of its class.

Bahri, Jiang, Gupta, 2020 (deep k-NN). arXiv:2004.12289; Jorge et al., 2024 (WANN: neighbours that
are reliable themselves count more). arXiv:2408.14358
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.base import arrays, devices, processes, progress
from datablame.base.errors import at_least
from datablame.base.shapes import Float, Int
from datablame.inference import approximate
from datablame.inference.features import Encoded, encoded, features, is_frozen
from datablame.inference.folds import spread, trained
from datablame.run import Run

BLOCK = 1 << 26
"""Cosines held at a time."""
KEPT, HELD = 100, 1 << 28
"""Neighbours that are searched for at least, and bytes of them that are kept at most."""
NEAR = 4.0
"""By e to this the nearest neighbour counts for more than the last, where they are trusted."""
FLOOR = 0.02
"""What a neighbour counts for whose own label none of its neighbours has."""


def class_votes(run: Run, k: int = 50, trust: int = 0) -> np.ndarray:
    """float16 `[N,K]`, kept: the share of each class among the labels of the `k` nearest other
    examples (cosine of the encoder's features), the nearer counting more; of a cross-fitted run the
    mean over the models that trained on the example.

    With `trust`, in so many rounds each neighbour counts for as much as its own neighbours have its
    label: wrong labels among them count for little.
    """
    at_least(1, k=k)
    at_least(0, 100, trust=trust)
    shape = (len(run.data), len(run.data.classes))
    path = run.path / f"neighbours-{k}{f'-{trust}' if trust else ''}.npy"
    return arrays.keep(path, lambda: _votes(run, k, trust).half().numpy(), shape, "f", True)


def _votes(run: Run, k: int, trust: int) -> Float[Tensor, "N K"]:
    found = space(run)
    if found is None:
        every = trained(run)
        parts = [
            torch.from_numpy(np.array(class_votes(fold.run, k, trust))).float() for fold in every
        ]
        return spread(run, parts, every)
    cosine, index = _nearest(run, found, k)
    labels, classes = run.data.labels, len(run.data.classes)
    if not trust:
        return votes_of(cosine.clamp_min(0) + 1e-6, labels[index], classes)
    reach = (cosine[:, :1] - cosine[:, -1:]).clamp_min(1e-6)
    close = (-NEAR * (cosine[:, :1] - cosine) / reach).exp()
    votes = votes_of(close, labels[index], classes)
    for _ in range(trust):
        own = votes.gather(1, labels[:, None])[:, 0]
        votes = votes_of(close * (own[index] + FLOOR), labels[index], classes)
    return votes


def distances(run: Run, k: int = 10) -> Float[Tensor, " N"]:
    """The mean cosine distance of the `k` nearest other examples in the encoder's features; of a
    cross-fitted run the mean over the models that trained on the example.
    """
    at_least(1, k=k)
    found = space(run)
    if found is not None:
        return 1 - _nearest(run, found, k)[0].mean(1)
    every = trained(run)
    return spread(run, [distances(fold.run, k) for fold in every], every)


def _nearest(run: Run, space: np.ndarray | Encoded, k: int) -> tuple[Tensor, Tensor]:
    """`nearest`, searched once for a run while it is open, where it need not be large."""
    wanted = max(k, KEPT)
    if 12 * space.shape[0] * wanted > HELD:
        return nearest(space, k)
    cosine, index = _FOUND.get(run, (torch.empty(0, 0), torch.empty(0, 0)))
    if cosine.shape[1] < min(k, space.shape[0] - 1):
        cosine, index = _FOUND[run] = nearest(space, wanted)
    return cosine[:, :k], index[:, :k]


_FOUND: WeakKeyDictionary[Run, tuple[Tensor, Tensor]] = WeakKeyDictionary()


def space(run: Run) -> np.ndarray | Encoded | None:
    """The features of all examples; None where each fold's model has its own."""
    if not run.cross_fitted:
        return features(run)
    model = run.with_model.model
    return encoded(model, run.data) if is_frozen(model) else None


def nearest(
    space: np.ndarray | Encoded, k: int, count: int | None = None
) -> tuple[Float[Tensor, "N k"], Int[Tensor, "N k"]]:
    """(cosines, rows) of the `k` nearest other examples of each, or of the first `count`, the
    nearest first; all, where these are fewer. Each process looks up a part of them.
    """
    with progress.stage("neighbours"):
        kept = torch.from_numpy(np.asarray(space[:], "float32"))
        held = normalize(kept.to(devices.device()))
        k = min(k, len(held) - 1)
        count = len(held) if count is None else count
        mine = processes.shard(torch.arange(count, device=held.device))
        found = (approximate.nearest if approximate.wanted(held) else _exact)(held, mine, k)
        cosine, index = (processes.together(each, count).cpu() for each in found)
        return cosine, index


def _exact(
    space: Float[Tensor, "N D"], rows: Int[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """By comparing some rows with all."""
    blocks, found = rows.split(max(1, BLOCK // len(space))), []
    for some in progress.track(blocks, len(blocks), "neighbours", "blocks"):
        near = space[some] @ space.T
        near[torch.arange(len(some), device=some.device), some] = -torch.inf
        found.append(near.topk(k))
    return torch.cat([each for each, _ in found]), torch.cat([each for _, each in found])


def votes_of(
    weight: Float[Tensor, "N k"], labels: Int[Tensor, "N k"], classes: int
) -> Float[Tensor, "N K"]:
    """The weighted share of each class among the neighbours."""
    votes = torch.zeros(len(labels), classes)
    return votes.scatter_add_(1, labels, weight) / weight.sum(1, keepdim=True)
