"""Feed: what a model is shown at each step of an epoch, on the device."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Tensor

from datablame.attention.head import attentive
from datablame.base import hashing, processes
from datablame.base.shapes import Int
from datablame.inference.features import encoded, is_frozen
from datablame.inference.sweep import ahead
from datablame.network.classifier import Classifier
from datablame.optimization.augment import augment
from datablame.run import Run

AT_ONCE, BLOCK = 1 << 25, 1 << 28
"""Bytes of images up to which an epoch's are changed at once on a CPU, and that are changed
together."""
Shown = tuple[Tensor, Tensor, tuple[Tensor, ...], Tensor]
"""Rows of a batch, those of this process, what the model is given for these, and their labels."""


class Feed:
    """The batches of each epoch: images as they look then, or kept features where these do not
    change. With an attentive head also a memory, drawn anew at each step and changed as they are.

    Order, labels and rows go to the device once; of images that cannot lie there, the next batch
    is fetched while the model looks at the one before.
    """

    def __init__(self, run: Run, model: Classifier):
        self.data, self.recipe, self.head = run.data, run.recipe, attentive(model)
        still = is_frozen(model) and run.recipe.augment == "none"
        self.kept = encoded(model, run.data) if still else None
        self.there = not still and run.data.pixels.there
        self.place = processes.device() if self.there else torch.device("cpu")
        self.epoch, self.changed = -1, torch.empty(0)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.data) // self.recipe.batch_size)

    def of(self, epoch: int) -> Iterator[Shown]:
        """The batches of an epoch."""
        order = hashing.permutation(len(self.data), "order", self.recipe.seed, epoch)
        every = hashing.batches(order.to(self.place), self.recipe.batch_size)

        def load(step: int) -> Shown:
            mine = processes.shard(every[step])
            return every[step], mine, *self._shown(mine, epoch, step)

        slow = self.kept is None and not self.there
        return ahead(load, range(len(every))) if slow else map(load, range(len(every)))

    def _shown(
        self, rows: Int[Tensor, " B"], epoch: int, step: int
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """What the model is given for these rows, and their labels."""
        data, recipe, memory = self.data, self.recipe, ()
        if self.kept is not None:
            memory = (self.kept.at(self._drawn(epoch, step)),) if self.head else ()
            return (self.kept.at(rows), *memory), data.labels_of(rows)
        if self._fits:
            images = self._whole(epoch)[rows]
        else:
            images = augment(data.batch(rows)[0], rows, recipe.augment, recipe.seed, epoch)
        if self.head:
            some = processes.shard(self._drawn(epoch, step))
            seed = recipe.seed, epoch, "memory", step
            memory = (augment(data.batch(some)[0], some, recipe.augment, *seed),)
        return (images, *memory), data.labels_of(rows)

    def _drawn(self, epoch: int, step: int) -> Int[Tensor, " m"]:
        """Rows of the memory of a step."""
        assert self.head is not None
        seed = "memory", self.recipe.seed, epoch, step
        return hashing.some(len(self.data), self.head.how.size, *seed)

    @property
    def _fits(self) -> bool:
        """Whether all images fit beside the others, changed: then an epoch is drawn at once,
        without the many small steps of a batch.
        """
        if not self.there or processes.size() > 1:
            return False
        room = AT_ONCE if self.place.type == "cpu" else processes.free() // 8
        return self.epoch >= 0 or len(self.data) * prod(self.data.shape) <= room

    def _whole(self, epoch: int) -> Tensor:
        """All images as they are seen in an epoch: the same as drawn a batch at a time."""
        if epoch != self.epoch:
            every = torch.arange(len(self.data), device=self.place)
            parts = every.split(max(1, BLOCK // prod(self.data.shape)))
            what, seed = self.recipe.augment, (self.recipe.seed, epoch)
            self.changed = torch.cat(
                [augment(self.data.batch(rows)[0], rows, what, *seed) for rows in parts]
            )
            self.epoch = epoch
        return self.changed
