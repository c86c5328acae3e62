"""What recording costs, and how our loop compares with the best bare one: interleaved in one process,
medians of several rounds.

A bare loop has the same model, batch, optimizer and changes of images, the data on the device, and no
more; it is tried in fp32 and bf16 and with images changed a step or an epoch at a time, and the fastest
counts. About six minutes on two cores; `--full` takes the whole set and full width, for a GPU.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import results
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import datablame as db
from datablame import Dataset, Recipe
from datablame.base import devices
from datablame.network.classifier import build
from datablame.optimization import state
from datablame.optimization.augment import augment
from datablame.run import Run
from datablame.trace import Recorder
from datablame.training import auto, pace
from datablame.training.fit import fit


def bare(data: Dataset, recipe: Recipe, model: nn.Module, precision: str, whole: bool) -> float:
    """Images a second of a plain PyTorch loop; `whole`: an epoch's images are changed at once."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
        fused=True,
    )
    assert data.images is not None
    device = devices.device()
    images, labels = data.images.held, data.labels.to(device)
    model.train()
    devices.synchronise()
    began = time.perf_counter()
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(data), device=device)
        changed = augment(images, torch.arange(len(data)), recipe.augment, epoch) if whole else None
        for index in order.split(recipe.batch_size):
            seen = (
                augment(images[index], index, recipe.augment, epoch)
                if changed is None
                else changed[index]
            )
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = cross_entropy(model(seen), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    devices.synchronise()
    return len(data) * recipe.epochs / (time.perf_counter() - began)


def ours(data: Dataset, recipe: Recipe, threads: int) -> float:
    """Images a second by `fit`, everything that it does included: the model is built, the trace, the
    log, the checkpoint and the weights are written."""
    with tempfile.TemporaryDirectory() as out:
        run = Run.create(data, recipe, None, out)
        devices.synchronise()
        began = time.perf_counter()
        fit(run, threads)
        devices.synchronise()
        return len(data) * recipe.epochs / (time.perf_counter() - began)


class Silent(Recorder):
    """A recorder that keeps nothing: the same loop without recording."""

    def put(self, index: object, logits: object, labels: object, **more: object) -> None:
        return None

    def write(self, epoch: int) -> None:
        return None


@contextmanager
def unrecorded() -> Iterator[None]:
    """Inside, trainings keep nothing of what the model says."""
    keep, tell = state.Recorder, state.entry_of

    def note(run: Run, epoch: int, loss: float, spent: float) -> dict[str, float]:
        return {"epoch": epoch + 1, "loss": loss, "train_error": 0.0}

    state.Recorder, state.entry_of = Silent, note  # type: ignore[misc]  # for this measure
    try:
        yield
    finally:
        state.Recorder, state.entry_of = keep, tell  # type: ignore[misc]


def silent(data: Dataset, recipe: Recipe, threads: int) -> float:
    """Images a second by `fit`, without recording."""
    with unrecorded():
        return ours(data, recipe, threads)


def row_of(data: Dataset, recipe: Recipe, rounds: int) -> list[str]:
    """A row of the table."""
    recipe = auto.settle(recipe, data)
    threads = pace.best_threads(recipe, data)
    model = build(recipe, data)
    kinds: dict[str, Callable[[], float]] = {
        "ours": lambda: ours(data, recipe, threads),
        "unrecorded": lambda: silent(data, recipe, threads),
    }
    for precision, whole in itertools.product(
        ("fp32", "bf16") if devices.has_bf16() else ("fp32",), (False, True)
    ):
        name = f"{precision}, changed {'an epoch' if whole else 'a step'} at a time"
        kinds[name] = lambda precision=precision, whole=whole: bare(
            data, recipe, model, precision, whole
        )
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    with devices.threads(threads):
        for turn in range(rounds + 1):
            for kind in list(kinds) if turn % 2 else list(kinds)[::-1]:
                rates[kind].append(kinds[kind]())
    middle = {
        kind: float(np.median(values[1:])) for kind, values in rates.items()
    }  # first: warm up
    best = max(list(kinds)[2:], key=lambda kind: middle[kind])
    every = {kind: np.array(values[1:]) for kind, values in rates.items()}
    ratio = float(np.median(every["ours"] / every[best]))
    cost = float(np.median(every["unrecorded"] / every["ours"])) - 1
    return [
        f"{data.source} {recipe.model}",
        f"{recipe.batch_size}, {recipe.precision}, {threads}",
        f"{middle[best]:,.0f} ({best})",
        f"{middle['ours']:,.0f}",
        f"{middle['unrecorded']:,.0f}",
        f"{ratio:.2f}",
        f"{cost:+.1%}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="50,000 images, full width; for a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    n = 50_000 if options.full else 2_560
    generator = np.random.default_rng(0)
    data = Dataset.from_arrays(
        generator.integers(0, 256, (n, 3, 32, 32), dtype="uint8"),
        generator.integers(0, 10, n),
        source="noise",
    )
    models = (
        ["resnet9", "resnet,depth=18"]
        if options.full
        else ["resnet9,width=0.25", "resnet9,width=0.5"]
    )
    recipe = Recipe(epochs=2, folds=0, batch_size=512 if options.full else 128)
    rows = [row_of(data, recipe.but(model=model), options.rounds) for model in models]
    rows.append(row_of(db.load("digits"), Recipe(folds=0), options.rounds))
    head = [
        "model",
        "batch, precision, threads",
        "best bare loop, images/s",
        "ours, recording",
        "ours, not recording",
        "ours / best bare",
        "cost of recording",
    ]
    text = (
        f"{n:,} images of 32x32, two epochs, and `digits`, {auto.settle(Recipe(), db.load('digits')).epochs}; "
        f"medians of {options.rounds} interleaved rounds; ratios are medians of the rounds' ratios. Ours is "
        "the whole of `fit`: it builds the model and writes trace, log, checkpoint and weights.\n\n"
    )
    results.write(
        "Recording, and the loop next to the best bare one" + (" (GPU)" if options.full else ""),
        text + results.table(head, rows),
    )


if __name__ == "__main__":
    main()
