"""Descent: the loop that trains on given labels and records every example in passing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from datablame.attention import attentive
from datablame.classifier import Classifier, build
from datablame.evidence import recall
from datablame.evidence.augment import augment
from datablame.evidence.encoded import encoded, still
from datablame.evidence.schedules import schedule
from datablame.evidence.temper import Temperatures
from datablame.evidence.training import Progress, look, optimizer_of
from datablame.ground import clock, draw, world
from datablame.run import Run


def descend(run: Run, temperatures: Temperatures | None = None) -> Classifier:
    """Train the run's model by its recipe; logits are divided by temperatures where there are any, which learn beside the weights."""
    data, recipe = run.data, run.recipe
    model = build(recipe, data)
    optimizer = optimizer_of(model, recipe)
    channels, tensors = (temperatures.channels, temperatures.tensors) if temperatures else ((), {})
    progress = Progress(run, [(model, optimizer)], channels, tensors)
    says = spoken(run, model)
    rate_at = schedule(recipe.schedule)
    each = len(draw.batches(torch.arange(len(data)), recipe.batch))
    ticker = clock.Ticker((recipe.epochs - progress.done) * each, "training", "steps")

    for epoch in range(progress.done, recipe.epochs):
        torch.manual_seed(draw.seed_of("epoch", recipe.seed, epoch, world.rank()))
        steps = draw.batches(draw.permutation(len(data), "order", recipe.seed, epoch), recipe.batch)
        losses = torch.zeros(len(steps), device=world.device())
        model.train()
        for step, index in enumerate(steps):
            progress.rate(recipe.rate * rate_at((epoch + step / len(steps)) / recipe.epochs))
            mine = world.shard(index)
            with world.autocast(recipe.precision):
                logits, labels = says(mine, epoch, step)
            cooled = logits / temperatures.at(mine)[:, None] if temperatures else logits
            loss = cross_entropy(cooled, labels, reduction="sum") / len(index)
            progress.step(model, optimizer, loss)
            if temperatures:
                temperatures.step(index, logits.detach(), labels)
            losses[step] = loss.detach()
            if recipe.look == "pass":
                progress.recorder.put(mine, logits, labels)
            ticker.tick(f"epoch {epoch + 1} of {recipe.epochs}")
        recall.refresh(run, model)
        if recipe.look == "clean":
            look(model, data, progress.recorder)
        if temperatures:
            temperatures.record(progress.recorder, epoch)
        progress.close(epoch, losses, model)
    ticker.close()
    return model


def spoken(run: Run, model: Classifier) -> Callable[[Tensor, int, int], tuple[Tensor, Tensor]]:
    """(rows, epoch, step) -> what the model says of them as they are seen then, and their labels; from kept features where they do not change.

    An attentive head looks at a memory that is drawn anew at each step, and changed at random as the images are.
    """
    data, recipe, head = run.data, run.recipe, attentive(model)

    def drawn(epoch: int, step: int) -> Tensor:
        assert head is not None
        return draw.some(len(data), head.how.size, "memory", recipe.seed, epoch, step)

    if still(model) and recipe.augment == "none":
        kept, every = encoded(model, data), data.labels.to(world.device())

        def known(rows: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
            memory = (kept.at(drawn(epoch, step)),) if head else ()
            return model.head(kept.at(rows), *memory).float(), every[rows.to(every.device)]

        return known

    def seen(rows: Tensor, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        images, labels = data.batch(rows)
        images, memory = augment(images, rows, recipe.augment, recipe.seed, epoch), None
        if head:
            some = world.shard(drawn(epoch, step))
            memory = augment(data.batch(some)[0], some, recipe.augment, recipe.seed, epoch, "memory", step)
        return model(images, memory).float(), labels

    return seen
