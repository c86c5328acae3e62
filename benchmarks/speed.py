"""What recording costs, and how our loop compares with a bare one: interleaved in one process,
medians of several rounds.

The bare loop has the same model, batch, precision, optimizer, augmentation and data on the device,
and no more. About five minutes on two cores; `--full` takes the whole set, full width and bf16, for
a GPU.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable

import numpy as np
import results
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from datablame import Dataset, Recipe
from datablame.base import processes
from datablame.network.classifier import build
from datablame.optimization import state
from datablame.optimization.augment import augment
from datablame.run import Run
from datablame.trace import Recorder
from datablame.training import auto
from datablame.training.fit import fit


def bare(data: Dataset, recipe: Recipe, model: nn.Module) -> float:
    """Images a second of one epoch of a plain PyTorch loop."""
    optimizer = torch.optim.SGD(
        model.parameters(),
        recipe.lr,
        recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=True,
    )
    assert data.images is not None
    images, labels, device = (
        data.images.held,
        data.labels.to(processes.device()),
        processes.device(),
    )
    model.train()
    order = torch.randperm(len(data), device=device)
    synchronise()
    began = time.perf_counter()
    for index in order.split(recipe.batch_size):
        with torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            loss = cross_entropy(
                model(augment(images[index], index, recipe.augment, 0)), labels[index]
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    synchronise()
    return len(data) / (time.perf_counter() - began)


def ours(data: Dataset, recipe: Recipe) -> float:
    """Images a second of one epoch by `fit`, everything that happens at an epoch's end included."""
    with tempfile.TemporaryDirectory() as out:
        run = Run.create(data, recipe.but(epochs=1), None, out)
        fit(run)
        return len(data) / run.log[0]["seconds"]


class Silent(Recorder):
    """A recorder that keeps nothing: the same loop without recording."""

    def put(
        self, index: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, **more: torch.Tensor
    ) -> None:
        return None

    def write(self, epoch: int) -> None:
        return None


def unrecorded(data: Dataset, recipe: Recipe) -> float:
    """The same, without recording."""
    keep, tell = state.Recorder, state.entry_of
    seconds: list[float] = []

    def note(run: Run, epoch: int, loss: float, spent: float) -> dict[str, float]:
        seconds.append(spent)
        return {"epoch": epoch + 1}

    state.Recorder, state.entry_of = Silent, note  # type: ignore[misc]  # for this measure
    try:
        with tempfile.TemporaryDirectory() as out:
            fit(Run.create(data, recipe.but(epochs=1), None, out))
    finally:
        state.Recorder, state.entry_of = keep, tell  # type: ignore[misc]
    return len(data) / seconds[0]


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="50,000 images, full width, bf16; for a GPU"
    )
    options = parser.parse_args()
    n, rounds = (50_000, 9) if options.full else (2_560, 9)
    generator = np.random.default_rng(0)
    data = Dataset.from_arrays(
        generator.integers(0, 256, (n, 3, 32, 32), dtype="uint8"), generator.integers(0, 10, n)
    )
    rows = []
    models = (
        ["resnet9", "resnet,depth=18"]
        if options.full
        else ["resnet9,width=0.25", "resnet9,width=0.5"]
    )
    for name in models:
        recipe = auto.settle(
            Recipe(model=name, epochs=1, folds=0, batch_size=512 if options.full else 128), data
        )
        model = build(recipe, data)
        kinds: dict[str, Callable[[], float]] = {
            "bare": lambda recipe=recipe, model=model: bare(data, recipe, model),
            "ours": lambda recipe=recipe: ours(data, recipe),
            "unrecorded": lambda recipe=recipe: unrecorded(data, recipe),
        }
        rates: dict[str, list[float]] = {kind: [] for kind in kinds}
        for kind in kinds.values():
            kind()  # warm up
        for turn in range(rounds):
            order = list(kinds) if turn % 2 else list(kinds)[::-1]
            for kind in order:
                rates[kind].append(kinds[kind]())
        middle = {kind: float(np.median(values)) for kind, values in rates.items()}
        cost = float(np.median(np.array(rates["unrecorded"]) / np.array(rates["ours"]))) - 1
        ratio = float(np.median(np.array(rates["ours"]) / np.array(rates["bare"])))
        rows.append(
            [
                name,
                f"{recipe.batch_size}, {recipe.precision}",
                *(f"{middle[kind]:,.0f}" for kind in kinds),
                f"{ratio:.3f}",
                f"{cost:+.1%}",
            ]
        )
    head = [
        "model",
        "batch",
        "bare loop, images/s",
        "ours, recording",
        "ours, not recording",
        "ours / bare",
        "cost of recording",
    ]
    text = f"{n:,} images of 32x32, medians of {rounds} interleaved rounds; ratios are medians of the rounds' ratios. Ours includes what an epoch's end costs, "
    text += "the writing of the trace, the log and the checkpoint.\n\n" + results.table(head, rows)
    results.write(
        "Recording, and the loop next to a bare one" + (" (GPU)" if options.full else ""), text
    )


if __name__ == "__main__":
    main()
