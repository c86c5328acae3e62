"""Descent: the loop that trains on given labels and records every example in passing."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from datablame.base import devices, hashing, processes, progress
from datablame.inference import memory
from datablame.inference.features import is_frozen
from datablame.layers.united import average
from datablame.network.classifier import Classifier, build
from datablame.optimization.data_parameters import Temperatures
from datablame.optimization.feed import Feed
from datablame.optimization.optimizers import optimizer
from datablame.optimization.schedules import schedule
from datablame.optimization.state import TrainingState, look
from datablame.optimization.step import Pass, fastest
from datablame.run import Run


def descend(run: Run, temperatures: Temperatures | None = None) -> Classifier:
    """Train the run's model by its recipe; logits are divided by temperatures where there are any,
    which are learned with the weights.
    """
    data, recipe = run.data, run.recipe
    model = build(recipe, data)
    descent = optimizer(model, recipe)
    channels, tensors = (temperatures.channels, temperatures.tensors) if temperatures else ((), {})
    state = TrainingState(run, [(model, descent)], channels, tensors)
    feed = Feed(run, model)
    work = _pass(run, model, state)
    work = fastest(model, work) if recipe.accumulate == 1 else _in_parts(work, run, state)
    rate_at = schedule(recipe.schedule, recipe.warmup)
    ticker = progress.Ticker((recipe.epochs - state.done) * feed.steps, "training", "steps")

    for epoch in range(state.done, recipe.epochs):
        torch.manual_seed(hashing.seed_of("epoch", recipe.seed, epoch, processes.rank()))
        losses = torch.zeros(feed.steps, device=devices.device())
        model.train()
        for step, (rows, mine, inputs, labels) in enumerate(feed.of(epoch)):
            state.rate(recipe.lr * rate_at((epoch + step / feed.steps) / recipe.epochs))
            by = temperatures.at(mine) if temperatures else None
            logits, losses[step] = work(len(rows), labels, by, *inputs)
            state.apply(model, descent)
            if temperatures:
                temperatures.step(rows, logits, labels)
            if recipe.record == "train":
                state.recorder.put(mine, logits, labels)
            ticker.tick(f"epoch {epoch + 1} of {recipe.epochs}")
        if recipe.batch_norm == "apart":
            average(model)
        memory.refresh(run, model)
        if recipe.record == "eval":
            look(model, data, state.recorder)
        if temperatures:
            temperatures.record(state.recorder, epoch)
        state.close(epoch, losses, model)
    ticker.close()
    return model


def _in_parts(work: Pass, run: Run, state: TrainingState) -> Pass:
    """A pass over the parts of a batch one after the other; what attention looks at is shown with
    each.
    """

    def whole(
        count: int, labels: Tensor, by: Tensor | None, images: Tensor, *memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        state.zero()
        found, parts = [], run.recipe.accumulate
        cooled = [None] * parts if by is None else by.tensor_split(parts)
        for some in zip(
            labels.tensor_split(parts), cooled, images.tensor_split(parts), strict=True
        ):
            found.append(work(count, *some, *memory))
        logits, losses = zip(*found, strict=True)
        return torch.cat(logits), torch.stack(losses).sum()

    return whole


def _pass(run: Run, model: Classifier, state: TrainingState) -> Pass:
    """From images, or kept features where these do not change, to the loss and its gradients."""
    recipe = run.recipe
    still = is_frozen(model) and recipe.augment == "none"
    says: Callable[..., Tensor] = model.head if still else model

    def work(
        count: int, labels: Tensor, by: Tensor | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        if recipe.accumulate == 1:
            state.zero()
        with devices.autocast(recipe.precision):
            logits = says(*inputs).float()
        cooled = logits if by is None else logits / by[:, None]
        loss = cross_entropy(
            cooled, labels, reduction="sum", label_smoothing=recipe.label_smoothing
        )
        loss = loss / count
        state.scaler.scale(loss).backward()
        return logits.detach(), loss.detach()

    return work
