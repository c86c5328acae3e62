"""Memory Wrap: what its step and its explanations cost, what it does for the accuracy on few
images, and what its attention finds.

`python benchmarks/memory_wrap.py --out DIR` takes about half an hour on two cores and resumes;
`--full` is the paper's recipe with three encoders, on a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import results
import torch
import traces
from torch.nn.functional import cross_entropy

import datablame as db
from datablame.base import hashing
from datablame.inference.memory import MemoryBank
from datablame.network.classifier import build
from datablame.optimization.optimizers import SGD
from datablame.verbs.reading import planted

HEADS = {"plain": "linear", "memory": "memory", "Memory Wrap": "memory_wrap"}
SIGNALS = ("attention", "knn", "aum", "aum,since=0.5", "loss")
TURNS = 9


def clock() -> float:
    """Seconds, once the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turns(ways: dict[str, Callable[[], object]], turns: int = TURNS) -> dict[str, list[float]]:
    """Seconds of each way, one after the other, after a warm-up."""
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            began = clock()
            way()
            took = clock() - began
            if turn:
                spent[name].append(took)
    return spent


def ratio(spent: dict[str, list[float]], name: str, beside: str) -> float:
    return statistics.median(a / b for a, b in zip(spent[name], spent[beside], strict=True))


def steps(encoders: list[str]) -> str:
    """A training step of each head on 128 images with a memory of 100, beside the encoder's work
    on 228 images.
    """
    data = traces.cifar().take(torch.arange(228))
    images, labels = data.batch(torch.arange(128))
    memory = data.batch(torch.arange(128, 228))[0]
    every = torch.cat([images, memory])
    lines = []
    for encoder in encoders:
        recipe = db.Recipe(model=encoder, batch_size=128, lr=0.1)
        ways: dict[str, Callable[[], object]] = {}
        for name, head in HEADS.items():
            model = build(recipe.but(head=head), data).train()
            optimizer = SGD(model, recipe)

            def step(model=model, optimizer=optimizer, head=head) -> None:
                if head == "linear":
                    loss = cross_entropy(model(every), data.labels)
                else:
                    loss = cross_entropy(model(images, memory), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            ways[name] = step
        spent = in_turns(ways)
        lines.append(
            [encoder, f"{1e3 * statistics.median(spent['plain']):.0f} ms"]
            + [f"{ratio(spent, name, 'plain'):.3f}" for name in ("memory", "Memory Wrap")]
        )
    return results.table(["encoder", "its step on 228 images", "`memory`", "`memory_wrap`"], lines)


def explaining(run: db.Run) -> str:
    """10,000 test images with weights over a memory of 100, beside their plain inference and one
    pass over the memory.
    """
    model, recall = run.model, MemoryBank.of(run)
    plain = build(run.recipe.but(head="linear"), run.data).eval()
    assert run.test is not None
    test = run.test
    count = min(10_000, len(test))
    rows = hashing.some(len(run.data), 100, "bench")

    @torch.inference_mode()
    def inferred() -> None:
        plain(run.data.batch(rows)[0])
        for index in torch.arange(count).split(500):
            plain(test.batch(index)[0]).argmax(1)

    @torch.inference_mode()
    def explained() -> None:
        memory = model.features(run.data.batch(rows)[0])
        for index in torch.arange(count).split(500):
            logits, weights = model.head.answer(model.features(test.batch(index)[0]), memory)  # type: ignore[operator]
            logits.argmax(1)
            weights.sort(1, descending=True)

    spent = in_turns({"plain": inferred, "explained": explained}, 3)
    x = recall.at(torch.arange(500))
    began, covers = clock(), 4
    recall.attention(x, covers)
    rate = covers * (len(run.data) // recall.head.how.size) / (clock() - began)
    return (
        f"{count:,} test images explained by a memory of 100: "
        f"{ratio(spent, 'explained', 'plain'):.3f} of the time of plain inference and one "
        "pass over the memory "
        f"({statistics.median(spent['explained']):.1f} s). {rate:,.0f} memories a second "
        "for 500 queries."
    )


def accuracies(options: argparse.Namespace, recipe: db.Recipe, encoders: list[str]) -> str:
    """Test accuracy of the three heads on few images, and that of explanations."""
    data, test = traces.cifar(), db.load(str(results.SHARED / "test.parquet"))
    lines, told = [], []
    for encoder in encoders:
        for count in (1_000, 2_000):
            runs: dict[str, list[db.Run]] = {}
            for name, head in HEADS.items():
                for seed in range(options.seeds):
                    how = recipe.but(model=encoder, head=head, seed=seed)
                    part = db.Subset(examples=count)
                    runs.setdefault(name, []).append(
                        db.train(data, recipe=how, subset=part, test=test, out=options.out)
                    )
            for name, each in runs.items():
                found = [db.memory.test(run)["runs"][str(run.path)] for run in each]
                gain = ["", ""] if name == "plain" else results.gain(runs["plain"], each)
                accuracy = results.told([100 * one["accuracy"] for one in found], 2)
                lines.append([encoder, f"{count:,}", name, accuracy, *gain])
                if name != "plain":
                    names = (
                        "explanation_accuracy",
                        "example_accuracy",
                        "counterfactual_accuracy",
                        "kept_memory",
                        "whole_set",
                    )
                    over = statistics.fmean(one["over_memories"] for one in found)
                    told.append(
                        [encoder, f"{count:,}", name]
                        + [results.told([100 * one[key] for one in found], 1) for key in names]
                        + [f"{100 * over:.2f}"]
                    )
    first = results.table(
        ["encoder", "images", "head", "test accuracy, %", "gain", "interval"], lines
    )
    second = results.table(
        [
            "encoder",
            "images",
            "head",
            "explanation accuracy",
            "example accuracy",
            "counterfactual accuracy",
            "kept memory",
            "whole set as memory",
            "spread over memories",
        ],
        told,
    )
    return f"{first}\n\nOf the two with a memory, in %:\n\n{second}"


def blame(options: argparse.Namespace, recipe: db.Recipe) -> tuple[str, db.Run]:
    """What attention finds of wrong labels, beside other signals of the same run."""
    rows = torch.arange(options.rows)
    test = db.load(str(results.SHARED / "test.parquet"))
    sets = {
        "uniform 20 %": planted(traces.cifar().take(rows), "uniform", 0.2, 0),
        "`aggre_label`": traces.cifar("aggre_label").take(rows),
        "`worse_label`": traces.cifar("worse_label").take(rows),
    }
    how = recipe.but(head="memory_wrap")
    runs = {
        name: db.train(data, recipe=how, test=test, out=options.out) for name, data in sets.items()
    }
    return results.found(runs, SIGNALS), next(iter(runs.values()))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=results.OUT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--epochs", type=int, default=0, help="0: 30, or with --full those of the recipe"
    )
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    if options.full:
        recipe = db.Recipe.read(Path("wrap_cifar10"))
        recipe = recipe.but(epochs=options.epochs or recipe.epochs)
        encoders = ["mobilenet_v2", "resnet18", "efficientnet_b0"]
        noisy = db.Recipe(model="resnet9", epochs=30, batch_size=128, folds=0)
    else:
        recipe = db.Recipe.read(Path("wrap_small")).but(
            epochs=options.epochs or 30, precision="bf16"
        )
        encoders = ["resnet9,width=0.25"]
        noisy = db.Recipe(
            model="resnet9,width=0.25", epochs=12, batch_size=128, folds=0, precision="bf16"
        )
    cost = steps([*dict.fromkeys([*encoders, "resnet9,width=0.25", "mobilenet_v2"])])
    found, run = blame(options, noisy)
    results.write(
        "Memory Wrap" + (" (full)" if options.full else ""),
        "A training step with a batch of 128 and a memory of 100, as a multiple of the "
        f"encoder's own step on 228 images, in turns:\n\n{cost}\n\n{explaining(run)}\n\n"
        f"CIFAR-10, {options.seeds} seeds, each with its own stratified draw, "
        f"{recipe.epochs} epochs; behind ± the half width of a 95 % interval over seeds; "
        "the gain over the plain "
        "head, by the memory that the model keeps and with mirror images averaged, with "
        "its own (images and seeds resampled); accuracy is the mean over five times "
        "random memories, without mirror images:\n\n"
        f"{accuracies(options, recipe, encoders)}\n\n"
        f"Wrong labels found by attention, CIFAR-10, {options.rows:,} rows, {noisy.model}, "
        f"{noisy.epochs} epochs, one seed:\n\n{found}",
    )


if __name__ == "__main__":
    main()
