"""Data parameters: what they cost, what their curves find, and what they do for the accuracy under
wrong labels.

`python benchmarks/data_parameters.py --out DIR` takes about half an hour on two cores and resumes; `--long`,
40 epochs of uniform noise alone, an hour more; `--full` is the whole of CIFAR-10 with WRN-28-10, on
a GPU.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import results
import torch
import traces
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

import datablame as db
from datablame.analyses.classes import NAMES
from datablame.data.subset import Subset
from datablame.dynamics.groups import flat_map
from datablame.network.classifier import build
from datablame.optimization.data_parameters import DataParameters, Temperatures
from datablame.optimization.optimizers import SGD
from datablame.verbs.reading import planted

UNIFORM = "uniform 40 %"
SETS = ((UNIFORM, "label"), ("`worse_label`", "worse_label"))
SIZES = (10_000, 10_000_000)
TURNS, STEPS = 12, 8


class Original:
    """The step of Saxena et al.'s published code: a dense gradient, and copies of all values and
    momenta to put back those of other rows.
    """

    def __init__(self, rows: int):
        self.log, self.momentum = torch.zeros(rows), torch.zeros(rows)

    def step(self, batch: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> None:
        log = self.log.requires_grad_()
        cross_entropy(logits / log[batch].exp()[:, None], labels).backward()
        assert log.grad is not None
        gradient, self.log = log.grad, log.detach()
        value, momentum = self.log.clone(), self.momentum.clone()
        idle = gradient == 0
        self.momentum.mul_(0.9).add_(gradient)
        self.log.sub_(0.2 * self.momentum)
        self.log[idle], self.momentum[idle] = value[idle], momentum[idle]
        self.log.clamp_(np.log(1 / 20), np.log(20))


class Rows:
    """What temperatures ask of a data set."""

    def __init__(self, rows: int):
        self.labels, self.classes = torch.arange(rows) % 10, tuple("0123456789")

    def __len__(self) -> int:
        return len(self.labels)


def cost() -> str:
    """Milliseconds of a training step, plain, with ours and with the original's, in turns."""
    recipe = db.Recipe(model="resnet9,width=0.25", batch_size=128, epochs=12)
    model = build(recipe, traces.cifar().take(torch.arange(128)))
    model.train()
    optimizer = SGD(model, recipe)
    images, labels = torch.rand(128, 3, 32, 32), torch.arange(128) % 10
    spent: dict[str, list[float]] = {}

    def step(rows: int, ours: Temperatures | None, theirs: Original | None) -> None:
        batch = torch.randint(0, rows, (128,)).sort().values
        logits = model(images)
        cooled = logits / ours.at(batch)[:, None] if ours else logits
        loss = cross_entropy(cooled, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if ours:
            ours.step(batch, logits.detach(), labels)
        if theirs:
            theirs.step(batch, logits.detach(), labels)

    ways: dict[str, tuple[int, Temperatures | None, Original | None]] = {"plain": (10, None, None)}
    for rows in SIZES:
        run: Any = SimpleNamespace(data=Rows(rows), recipe=recipe)
        for level in ("instance", "both"):
            ways[f"{level}, {rows:,} rows"] = (
                rows,
                Temperatures(run, DataParameters(level=level)),
                None,
            )
        ways[f"the original's, {rows:,} rows"] = rows, None, Original(rows)
    for _ in range(TURNS):
        for name, way in ways.items():
            began = time.perf_counter()
            for _ in range(STEPS):
                step(*way)
            spent.setdefault(name, []).append((time.perf_counter() - began) / STEPS)
    lines = []
    for name, each in spent.items():
        more = statistics.median(
            mine / plain - 1 for mine, plain in zip(each, spent["plain"], strict=True)
        )
        lines.append(
            [
                name,
                f"{1e3 * statistics.median(each):.1f} ms",
                f"{more:+.1%}" if name != "plain" else "",
            ]
        )
    return results.table(["temperatures", "a step", "more than plain"], lines)


def planes() -> str:
    """Seconds to place curves of 100 epochs on a plane."""
    generator = np.random.default_rng(0)
    lines = []
    for count in (5_000, 50_000):
        walks = generator.normal(0, 0.1, (count, 100)).cumsum(1) + generator.choice(3, count)[
            :, None
        ] * np.linspace(0, 3, 100)
        began = time.perf_counter()
        flat_map(walks.astype("float32"))
        lines.append([f"{count:,}", f"{time.perf_counter() - began:.0f} s"])
    return results.table(["curves of 100 epochs", "t-SNE"], lines)


def trained(
    options: argparse.Namespace, recipe: db.Recipe, name: str, data: db.Dataset
) -> dict[str, list[db.Run]]:
    """Runs of one set, a seed each: plain, with temperatures, and plain on the 60 % that ended
    coolest.
    """
    test = db.load(str(results.SHARED / "test.parquet"))
    runs: dict[str, list[db.Run]] = {"plain": [], "data_parameters": [], "the coolest 60 %": []}
    for seed in range(options.seeds):
        how = recipe.but(seed=seed)
        whole = planted(data, "uniform", 0.4, seed) if name == UNIFORM else data
        runs["plain"].append(db.train(whole, recipe=how, test=test, out=options.out))
        hot = db.train(whole, recipe=how.but(trainer="data_parameters"), test=test, out=options.out)
        runs["data_parameters"].append(hot)
        cool = Subset(keep=0.6, origin=str(hot.path), epoch=how.epochs)
        runs["the coolest 60 %"].append(
            db.train(whole, recipe=how, subset=cool, test=test, out=options.out)
        )
    return runs


def accuracies(runs: dict[str, list[db.Run]]) -> list[list[str]]:
    lines = []
    for how, each in runs.items():
        gain = ["", ""] if how == "plain" else results.gain(runs["plain"], each)
        lines.append(
            [how, results.told([100 * float(run.about["test_accuracy"]) for run in each], 2), *gain]
        )
    return lines


def kinds(runs: list[db.Run]) -> list[list[str]]:
    """The shares of easy, hard and to review, and how many labels are wrong among each."""
    held: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        assert run.data.wrong is not None
        db.score(run, "temperature")
        verdict = db.judge(run, judge="trajectory", by="temperature")
        for act, kind in NAMES.items():
            mine = verdict.act == act
            held.setdefault(kind, []).append(
                (float(mine.float().mean()), float(run.data.wrong[mine].float().mean()))
            )
    return [
        [kind, *(f"{statistics.fmean(each):.1%}" for each in zip(*pairs, strict=True))]
        for kind, pairs in held.items()
    ]


def areas(runs: dict[str, list[db.Run]]) -> list[list[str]]:
    """Area under the ROC curve of every signal, on traces with temperatures and without."""
    lines = []
    for how, names in (
        (
            "data_parameters",
            ("temperature", "temperature_curve", "temperature_curve,statistic=peak", "aum", ""),
        ),
        ("plain", ("aum", "")),
    ):
        for name in names:
            each = []
            for run in runs[how]:
                assert run.data.wrong is not None
                each.append(
                    float(
                        roc_auc_score(
                            run.data.wrong.numpy(), db.score(run, *filter(None, [name])).values
                        )
                    )
                )
            lines.append([f"`{name}`" if name else "the default blend", how, results.told(each)])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=results.OUT)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=12)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--long", action="store_true")
    length.add_argument("--full", action="store_true")
    options = parser.parse_args()
    title, rows, sets = "Data parameters", options.rows, SETS
    if options.full:
        recipe, rows, title = db.Recipe.read(Path("temper_cifar100")), 50_000, f"{title} (full)"
    else:
        recipe = db.Recipe.read(Path("temper_cifar10")).but(epochs=options.epochs)
    if options.long:
        recipe, sets, title = recipe.but(epochs=40), SETS[:1], f"{title}, 40 epochs"
    recipe = recipe.but(trainer="plain", folds=0, precision="bf16")
    text = (
        f"CIFAR-10, {rows:,} rows, {recipe.model}, {recipe.epochs} epochs, "
        f"{recipe.precision}, {options.seeds} seeds; behind ± the half width of a 95 % "
        "interval over "
        "seeds, the gain over plain training with its own (images and seeds resampled). "
        "The coolest 60 % are those of the run with temperatures, as many epochs.\n\n"
    )
    for name, column in sets:
        runs = trained(options, recipe, name, traces.cifar(column).take(torch.arange(rows)))
        wrong = statistics.fmean(
            float(run.data.wrong.float().mean())
            for run in runs["plain"]
            if run.data.wrong is not None
        )
        text += (
            f"**{name}**, {wrong:.1%} "
            f"wrong\n\n{results.table(['trained', 'test accuracy, %', 'gain', 'interval'], accuracies(runs))}\n\n"
            f"{results.table(['signal', 'trace', 'ROC-AUC'], areas(runs))}\n\n"
            f"{results.table(['judge `trajectory`', 'of all', 'wrong among them'], kinds(runs['temper']))}\n\n"
        )
    if not options.long:
        text += f"What temperatures add to a step (quarter-width ResNet-9, batches of 128, in turns):\n\n{cost()}\n\n{planes()}"
    results.write(title, text)


if __name__ == "__main__":
    main()
