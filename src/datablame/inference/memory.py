"""What an attentive head recalls: the features of all training images once encoded, so that any
memory of them is a gather. La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from datablame.attention.head import SIMILARITIES, Attentive, attentive
from datablame.base import devices, hashing, progress
from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int
from datablame.inference.features import features, gathered
from datablame.network.classifier import Classifier, Prepared
from datablame.run import Run

LOOKED = 4096
"""Training images by whose attention the most used are found."""
BLOCK = 1 << 25
"""Similarities held at a time."""


def refresh(run: Run, model: Classifier) -> None:
    """Encode the memory used to evaluate the model between epochs: drawn by the
    recipe's seed, from every class unless all is random.
    """
    if head := attentive(model):
        how = head.how
        _hold(
            model,
            run,
            spread(run, how.kept) if how.choose != "random" else _at_random(run, how.kept),
        )


def settle(run: Run, model: Classifier) -> None:
    """Choose the memory that the trained model answers by, keep its rows as memory.npy, and tell of
    classes that it lacks.
    """
    if not (head := attentive(model)):
        return
    model.eval()
    how = head.how

    def chosen() -> np.ndarray:
        if how.choose in ("random", "balanced"):
            rows = (_at_random if how.choose == "random" else spread)(run, how.kept)
        else:
            bank = MemoryBank.of(run, model)
            rows = (bank.prototypes if how.choose == "prototypes" else bank.used)(how.kept)
        return warned(run, rows).numpy()

    _hold(model, run, torch.from_numpy(run.keep("memory", chosen).copy()))


@torch.no_grad()
def _hold(model: Classifier, run: Run, rows: Int[Tensor, " M"]) -> None:
    """Put the features of these training images into the head."""
    model.eval()
    head = attentive(model)
    assert head is not None
    head.held = torch.cat(
        [model.features(run.data.batch(part)[0]).float() for part in rows.split(512)]
    )


def warned(run: Run, rows: Int[Tensor, " M"]) -> Int[Tensor, " M"]:
    """The same rows, with a warning where they lack classes."""
    there = set(run.data.labels[rows].tolist())
    lost = [run.data.classes[k] for k in run.data.labels.unique().tolist() if k not in there]
    if lost:
        some = ", ".join(lost[:5]) + (" and others" if len(lost) > 5 else "")
        progress.say(
            f"the memory of {len(rows)} images has none of {len(lost)} classes ({some}): a "
            "larger one would"
        )
    return rows


def _at_random(run: Run, count: int) -> Int[Tensor, " M"]:
    return hashing.some(len(run.data), count, "held", run.recipe.seed)


def spread(run: Run, count: int) -> Int[Tensor, " M"]:
    """The same number of each class, drawn at random."""
    return hashing.spread(run.data.labels, count, "held", run.recipe.seed)


def head_of(run: Run, model: Classifier | Prepared | None = None) -> Attentive:
    """Raises InputError for a run whose head looks at no memory."""
    head = attentive(model or run.model)
    if head is None:
        raise InputError(
            f"{run.path} was trained with --head {run.recipe.head}, which looks at no "
            "memory; train with --head memory_wrap"
        )
    return head


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """A head and the features `[N,D]` of the training images that it may look at."""

    run: Run
    head: Attentive
    features: np.ndarray

    @classmethod
    def of(cls, run: Run, model: Classifier | Prepared | None = None) -> MemoryBank:
        """Raises InputError for a run whose head looks at no memory."""
        return cls(run, head_of(run, model), features(run, model))

    def at(self, rows: Int[Tensor, "..."]) -> Float[Tensor, "... D"]:
        return gathered(self.features, rows)

    @torch.inference_mode()
    def answer(
        self, x: Float[Tensor, "B D"], rows: Int[Tensor, " M"] | None = None
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B M"]]:
        """(logits, weights) of features by a memory of these rows; without them by the one that the
        model keeps.
        """
        return self.head.answer(x, None if rows is None else self.at(rows))

    def covers(self, count: int, *seed: object) -> Iterator[Int[Tensor, "m M"]]:
        """`count` times the training set cut at random into memories; the last is filled up with
        images of the first.
        """
        size = self.head.how.size
        for turn in range(count):
            order = hashing.permutation(len(self.features), "cover", *seed, turn)
            yield torch.cat([order, order[: -len(order) % size]]).view(-1, size)

    @torch.inference_mode()
    def attention(
        self, x: Float[Tensor, "q D"], count: int, without: Int[Tensor, " q"] | None = None
    ) -> Float[Tensor, "q N"]:
        """The mean weight of every training image in `count` random memories that it is in;
        `without`: each query's own row, which it never sees.
        """
        measure = SIMILARITIES[self.head.how.similarity]
        blocks = torch.arange(len(self.features)).split(max(1, BLOCK // self.features.shape[1]))
        similar = torch.cat([measure(x.float(), self.at(rows)) for rows in blocks], 1)
        if without is not None:
            far = similar.amin(1) - 1e4 * max(1.0, float(self.head.warmth.exp()))
            similar[torch.arange(len(x)), without.to(similar.device)] = far
        total, times = torch.zeros_like(similar), torch.zeros_like(similar[0])
        for memories in self.covers(count, self.run.recipe.seed):
            columns = memories.flatten().to(similar.device)
            weights = self.head.weigh(similar[:, columns].view(len(x), *memories.shape))
            total.index_add_(1, columns, weights.flatten(1))
            times.index_add_(0, columns, torch.ones_like(times[columns]))
        return total / times

    def everything(self) -> Float[Tensor, "N D"]:
        """All features. Raises InputError where memory does not hold them."""
        if 8 * self.features.size > devices.free() // 2:
            raise InputError(
                f"features of {len(self.features):,} training images do not fit into "
                "memory; answer by the kept memory or a random one"
            )
        return self.at(torch.arange(len(self.features)))

    def used(self, count: int) -> Int[Tensor, " M"]:
        """The training images that others look at most, the most first."""
        total = torch.zeros(len(self.features), device=devices.device())
        some = hashing.some(
            len(self.features), min(LOOKED, len(self.features)), "looked", self.run.recipe.seed
        )
        for rows in some.split(max(1, BLOCK // len(self.features))):
            total += self.attention(self.at(rows), 4, rows).sum(0)
        return total.cpu().argsort(descending=True, stable=True)[:count]

    def prototypes(self, count: int) -> Int[Tensor, " M"]:
        """By herding: of each class the images, one after the other, whose mean comes closest to
        the mean of the class. Welling, 2009
        """
        labels = self.run.data.labels
        rank = torch.full((len(labels),), len(labels))
        for k, places in enumerate(labels[spread(self.run, count)].bincount().tolist()):
            rows = (labels == k).nonzero()[:, 0]
            space = normalize(self.at(rows))
            mean, sum_, free = (
                space.mean(0),
                torch.zeros_like(space[0]),
                torch.ones(len(rows), dtype=torch.bool),
            )
            for turn in range(places):
                gap = (mean * (turn + 1) - sum_ - space).square().sum(1).cpu()
                best = int(torch.where(free, gap, torch.inf).argmin())
                free[best], rank[rows[best]] = False, turn
                sum_ = sum_ + space[best]
        return rank.argsort(stable=True)[:count]
