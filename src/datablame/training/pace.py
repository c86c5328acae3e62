"""How long a training step takes on this machine, and by how many threads it is made fastest."""

from __future__ import annotations

import statistics
import time

import torch
from torch.nn.functional import cross_entropy

from datablame.attention.head import attentive
from datablame.base import devices, hashing, processes, progress
from datablame.dataset import Dataset
from datablame.network.classifier import FROZEN, build
from datablame.optimization.augment import augment
from datablame.optimization.optimizers import optimizer
from datablame.recipe import Recipe
from datablame.run import Run
from datablame.trace import observe

LOOKED, GLANCE, TRIED = 6.0, 2.0, 0.5
"""Seconds that are timed for an estimate, before an audit begins, and for a number of threads."""
LOOKS, TOGETHER = 40, 6
"""Steps that are timed at most, and by several processes."""


def step_cost(recipe: Recipe, data: Dataset, looked: float = LOOKED) -> tuple[float, int]:
    """(seconds an image of a whole training step, bytes of the weights): the median of many steps,
    since another program beside them makes some of them long.
    """
    model = build(recipe, data).train()
    descent = optimizer(model, recipe)
    head, times = attentive(model), []
    memory = None
    if head:  # of which each process encodes its part
        drawn = hashing.some(len(data), head.how.size, "calibration")
        memory = data.batch(processes.shard(drawn))[0]
    began = time.perf_counter()
    together = processes.size() > 1  # each must make as many steps as the others
    for step in range(TOGETHER if together else LOOKS):
        start = time.perf_counter()
        batch = hashing.permutation(len(data), "calibration", step)[: recipe.batch_size]
        index = processes.shard(batch)
        descent.zero_grad()
        for part in index.tensor_split(recipe.accumulate):
            images, labels = data.batch(part)
            with devices.autocast(recipe.precision):
                logits = model(augment(images, part, recipe.augment, "calibration"), memory)
            cross_entropy(logits.float(), labels).backward()
            observe(logits, labels)
        descent.step()
        devices.synchronise()
        times.append((time.perf_counter() - start) / len(batch))
        if step > 2 and not together and time.perf_counter() - began > looked:
            break
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    return statistics.median(times[1:]), size


def threads_of(run: Run) -> int:
    """By how many threads a run is trained, kept in run.json, since sums depend on it: one, where a
    step is too small for more.
    """
    count = processes.agree(run.about.get("threads"))
    if count is None:
        count = processes.agree(best_threads(run.recipe, run.data))
        run.change(threads=count)
    return count


def encodes(recipe: Recipe) -> bool:
    """Whether images are looked at once, by an encoder that does not train, and never again."""
    return recipe.model.startswith(FROZEN) and recipe.augment == "none"


def best_threads(recipe: Recipe, data: Dataset) -> int:
    """One thread or all, whichever makes a step faster; timed once for a recipe and a set."""
    most = torch.get_num_threads()
    if most == 1 or processes.size() > 1 or devices.device().type != "cpu" or encodes(recipe):
        return most
    mark = f"{recipe.hash(data.fingerprint)}/{most}"
    if mark not in _KNOWN:
        cost = {}
        for count in (most, 1):
            with devices.threads(count):
                cost[count], _ = step_cost(recipe, data, TRIED)
        _KNOWN[mark] = min(cost, key=lambda count: cost[count])
        if _KNOWN[mark] == 1:
            faster = cost[most] / cost[1]
            progress.say(f"one thread: a step is {faster:.1f} times as fast as by {most}")
    return _KNOWN[mark]


_KNOWN: dict[str, int] = {}
