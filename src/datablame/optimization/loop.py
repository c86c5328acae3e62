"""Descent: the loop that trains on given labels and records every example in passing."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from datablame.attention.head import attentive
from datablame.base import hashing, processes, progress
from datablame.dataset import Dataset
from datablame.inference import memory
from datablame.inference.features import encoded, is_frozen
from datablame.network.classifier import Classifier, build
from datablame.optimization.augment import augment
from datablame.optimization.data_parameters import Temperatures
from datablame.optimization.optimizers import optimizer
from datablame.optimization.schedules import schedule
from datablame.optimization.state import TrainingState, look
from datablame.recipe import Recipe
from datablame.run import Run

AT_ONCE = 1 << 25
"""Bytes of images up to which an epoch's are changed at once."""


def descend(run: Run, temperatures: Temperatures | None = None) -> Classifier:
    """Train the run's model by its recipe; logits are divided by temperatures where there are any,
    which are learned with the weights.
    """
    data, recipe = run.data, run.recipe
    model = build(recipe, data)
    descent = optimizer(model, recipe)
    channels, tensors = (temperatures.channels, temperatures.tensors) if temperatures else ((), {})
    state = TrainingState(run, [(model, descent)], channels, tensors)
    says = _spoken(run, model)
    rate_at = schedule(recipe.schedule, recipe.warmup)
    each = len(hashing.batches(torch.arange(len(data)), recipe.batch_size))
    ticker = progress.Ticker((recipe.epochs - state.done) * each, "training", "steps")

    for epoch in range(state.done, recipe.epochs):
        torch.manual_seed(hashing.seed_of("epoch", recipe.seed, epoch, processes.rank()))
        steps = hashing.batches(
            hashing.permutation(len(data), "order", recipe.seed, epoch), recipe.batch_size
        )
        losses = torch.zeros(len(steps), device=processes.device())
        model.train()
        for step, index in enumerate(steps):
            state.rate(recipe.lr * rate_at((epoch + step / len(steps)) / recipe.epochs))
            mine = processes.shard(index)
            with processes.autocast(recipe.precision):
                logits, labels = says(mine, epoch, step)
            cooled = logits / temperatures.at(mine)[:, None] if temperatures else logits
            loss = cross_entropy(
                cooled, labels, reduction="sum", label_smoothing=recipe.label_smoothing
            )
            loss = loss / len(index)
            state.step(model, descent, loss)
            if temperatures:
                temperatures.step(index, logits.detach(), labels)
            losses[step] = loss.detach()
            if recipe.record == "train":
                state.recorder.put(mine, logits, labels)
            ticker.tick(f"epoch {epoch + 1} of {recipe.epochs}")
        memory.refresh(run, model)
        if recipe.record == "eval":
            look(model, data, state.recorder)
        if temperatures:
            temperatures.record(state.recorder, epoch)
        state.close(epoch, losses, model)
    ticker.close()
    return model


def _spoken(run: Run, model: Classifier) -> Callable[[Tensor, int, int], tuple[Tensor, Tensor]]:
    """(rows, epoch, step) -> what the model says of them as they are seen then, and their labels;
    from kept features where they do not change.

    An attentive head looks at a memory that is drawn anew at each step, and changed at random as
    the images are.
    """
    data, recipe, head = run.data, run.recipe, attentive(model)

    def drawn(epoch: int, step: int) -> Tensor:
        assert head is not None
        return hashing.some(len(data), head.how.size, "memory", recipe.seed, epoch, step)

    if is_frozen(model) and recipe.augment == "none":
        kept, every = encoded(model, data), data.labels.to(processes.device())

        def known(rows: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
            memory = (kept.at(drawn(epoch, step)),) if head else ()
            return model.head(kept.at(rows), *memory).float(), every[rows.to(every.device)]

        return known

    drawn_of = _Epoch(data, recipe) if _small(data) else None

    def seen(rows: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        if drawn_of:
            images, labels = drawn_of(rows, epoch), data.labels[rows].to(processes.device())
        else:
            images, labels = data.batch(rows)
            images = augment(images, rows, recipe.augment, recipe.seed, epoch)
        memory = None
        if head:
            some = processes.shard(drawn(epoch, step))
            memory = augment(
                data.batch(some)[0], some, recipe.augment, recipe.seed, epoch, "memory", step
            )
        return model(images, memory).float(), labels

    return seen


def _small(data: Dataset) -> bool:
    """Whether all images fit beside the others, changed: then an epoch is drawn at once."""
    return len(data) * prod(data.shape) <= AT_ONCE and processes.size() == 1


class _Epoch:
    """All images as they are seen in an epoch: the same as drawn a batch at a time, without the
    many small steps."""

    def __init__(self, data: Dataset, recipe: Recipe):
        self.data, self.recipe, self.epoch = data, recipe, -1
        self.images = torch.empty(0)

    def __call__(self, rows: Tensor, epoch: int) -> Tensor:
        if epoch != self.epoch:
            every = torch.arange(len(self.data))
            images, _ = self.data.batch(every)
            self.images = augment(images, every, self.recipe.augment, self.recipe.seed, epoch)
            self.epoch = epoch
        return self.images[rows.to(self.images.device)]
