"""Feed: what a model is shown at each step of an epoch, on the device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from datablame.attention.head import attentive
from datablame.base import devices, hashing, processes
from datablame.inference.features import encoded, is_frozen
from datablame.inference.sweep import fetched
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
        self.place = torch.device("cpu") if still else run.data.pixels.place
        self.whole = not still and self._fits()

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.data) // self.recipe.batch_size)

    def of(self, epoch: int) -> Iterator[Shown]:
        """The batches of an epoch."""
        order = hashing.permutation(len(self.data), "order", self.recipe.seed, epoch)
        every = hashing.batches(order.to(self.place), self.recipe.batch_size)
        mine = [processes.shard(rows) for rows in every]
        for step, images in enumerate(self._images(mine, epoch)):
            rows = mine[step]
            memory = self._memory(epoch, step) if self.head else ()
            yield every[step], rows, (images, *memory), self.data.labels_of(rows)

    def _images(self, every: Sequence[Tensor], epoch: int) -> Iterator[Tensor]:
        """What the model sees of each batch of rows."""
        if self.kept is not None:
            yield from map(self.kept.at, every)
        elif self.whole:
            changed = self._changed(epoch)
            for rows in every:
                yield changed[rows]
        else:
            for rows, images in zip(every, fetched(self.data, every), strict=True):
                yield augment(images, rows, self.recipe.augment, self.recipe.seed, epoch)

    def _memory(self, epoch: int, step: int) -> tuple[Tensor]:
        """What an attentive head looks at in a step: features, or images of this process's part."""
        assert self.head is not None
        count, recipe = self.head.how.size, self.recipe
        some = hashing.some(len(self.data), count, "memory", recipe.seed, epoch, step)
        if self.kept is not None:
            return (self.kept.at(some),)
        some = processes.shard(some)
        seed = recipe.seed, epoch, "memory", step
        return (augment(self.data.batch(some)[0], some, recipe.augment, *seed),)

    def _fits(self) -> bool:
        """Whether all images fit beside the others, changed: then an epoch is drawn at once,
        without the many small steps of a batch.
        """
        if not self.data.pixels.there or processes.size() > 1:
            return False
        one = self.data.batch(torch.arange(1))[0]
        room = AT_ONCE if self.place.type == "cpu" else devices.free() // 8
        return len(self.data) * one.nbytes <= room

    def _changed(self, epoch: int) -> Tensor:
        """All images as they are seen in an epoch: the same as drawn a batch at a time."""
        every = torch.arange(len(self.data), device=self.place)
        parts = every.split(max(1, BLOCK // prod(self.data.shape)))
        what, seed = self.recipe.augment, (self.recipe.seed, epoch)
        return torch.cat([augment(self.data.batch(rows)[0], rows, what, *seed) for rows in parts])
