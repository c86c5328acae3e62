"""Everything that wants a GPU, in one run of under ten minutes: the training of CIFAR-10 while every
example is recorded at every epoch, as graphs and without, repeatable and not; how often a step waits;
and the influence task of the seed (50,000 rows, 2,000 queries, ResNet-9).

`--small` goes the same way with a few hundred images, on any machine, and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import results
import torch
from speed import unrecorded

import datablame as db
from datablame import Dataset, Recipe
from datablame.base import devices
from datablame.inference import predictions
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index
from datablame.influence.products import GradientProducts
from datablame.optimization import loop
from datablame.run import Run
from datablame.training import auto, machine
from datablame.training.fit import fit

TASK = 2_000
"""Queries of the influence task."""
EXACT: dict[str, Any] = {"rank": None, "basis": 50_000, "eigenvalues": 50_000}


def seconds(work: Callable[[], object]) -> float:
    devices.synchronise()
    began = time.perf_counter()
    work()
    devices.synchronise()
    return time.perf_counter() - began


@contextmanager
def plainly() -> Iterator[None]:
    """No step is replayed."""
    keep = loop.fastest
    loop.fastest = lambda _, work: work
    try:
        yield
    finally:
        loop.fastest = keep


@contextmanager
def free() -> Iterator[None]:
    """Kernels may differ in their last bits from run to run."""
    os.environ["DATABLAME_REPEATABLE"] = "no"
    try:
        yield
    finally:
        del os.environ["DATABLAME_REPEATABLE"]


@contextmanager
def unchanged() -> Iterator[None]:
    yield


WAYS = {
    "as it is": unchanged,
    "without graphs": plainly,
    "not recording": unrecorded,
    "not repeatable": free,
}


def training(data: Dataset, test: Dataset, recipe: Recipe, rounds: int) -> tuple[str, Run]:
    """The table of whole trainings, and one of the runs."""
    home, taken, kept = Path(tempfile.mkdtemp(prefix="gpu-")), {way: [] for way in WAYS}, None
    for turn in range(rounds + 1):  # the first warms up
        for way, around in WAYS.items():
            run = Run.create(data, recipe, test, home / f"{way}-{turn}")
            with around():
                taken[way].append(seconds(lambda run=run: fit(run)))
            kept = run if way == "as it is" else kept
    assert kept is not None
    middle = {way: sorted(each[1:])[len(each[1:]) // 2] for way, each in taken.items()}
    rows = [
        [
            way,
            f"{spent:.2f} s",
            f"{len(data) * recipe.epochs / spent:,.0f}",
            f"{spent / middle['as it is']:.2f}",
        ]
        for way, spent in middle.items()
    ]
    right = float((torch.tensor(predictions.on_test(kept)).argmax(1) == test.labels).float().mean())
    head = ["whole training", "seconds", "images/s", "of ours"]
    return (
        f"{len(data):,} images, {recipe.model}, {recipe.epochs} epochs, batches of "
        f"{recipe.batch_size}, {recipe.precision}; test accuracy {right:.2%}; medians of {rounds} in "
        "turns. A training is the whole of `fit`, everything it writes included.\n\n"
        + results.table(head, rows),
        kept,
    )


def waits(data: Dataset, recipe: Recipe) -> int:
    """How often the host waits for the device in an epoch, steps and its end together."""
    if devices.device().type != "cuda":
        return 0
    home = tempfile.mkdtemp(prefix="gpu-")
    counts = []
    for epochs in (2, 3):
        run = Run.create(data, recipe.but(epochs=epochs), None, f"{home}/{epochs}")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                fit(run)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        counts.append(len(seen))
    return counts[1] - counts[0]


def influence(run: Run, queries: Dataset, count: int) -> str:
    """The seed's task: factors, and queries against all rows."""
    asked = queries.take(torch.arange(min(count, len(queries))))
    rows = torch.arange(len(run.data))

    def pairs(fisher: Fisher) -> torch.Tensor:
        products = GradientProducts(run, asked, [(1.0, Factors(run, fisher).fit())], "margin")
        return products.score(products.prepare(torch.arange(len(asked))), rows)

    found, lines = {}, []
    for name, fisher in {
        "exact, fp32": Fisher(**EXACT, factors="fp32", gradients="fp32", scores="fp32"),
        "exact, auto": Fisher(**EXACT),
        "defaults": Fisher(),
    }.items():
        spent = seconds(lambda name=name, fisher=fisher: found.setdefault(name, pairs(fisher)))
        both = torch.stack([found["exact, fp32"].flatten(), found[name].flatten()])
        lines.append([name, f"{spent:.1f} s", f"{float(torch.corrcoef(both)[0, 1]):.5f}"])
    built: list[Index] = []

    def index() -> None:
        built.append(Index(Factors(run, Fisher()).fit()))
        built[0].scores(built[0].asked(asked, "margin"))

    lines.append(["by the index", f"{seconds(index):.1f} s", ""])
    head = ["factors and pairs", "seconds", "correlation with exact fp32"]
    return (
        f"{len(rows):,} rows, {len(asked):,} queries, {run.recipe.model}. Factors are fitted anew "
        "but for the index, which takes those of the defaults.\n\n" + results.table(head, lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    few: dict[str, Any] = {"label": "label", "limit": 400 if options.small else None}
    data = db.load(str(results.SHARED / "train.parquet"), **few)
    test = db.load(str(results.SHARED / "test.parquet"), **few)
    recipe = Recipe(model="resnet9", epochs=16, batch_size=512, folds=0, lr=0.4)
    if options.small:
        recipe = recipe.but(model="resnet9,width=0.125", epochs=2, batch_size=64)
    if devices.device().type != "cuda" and not options.small:
        raise SystemExit("there is no GPU here; --small goes the same way on a CPU")
    recipe = auto.settle(recipe, data)
    table, run = training(data, test, recipe, 1 if options.small else 3)
    waited = (
        f"The host waits {waits(data, recipe):,} times an epoch for the device, of "
        f"{-(-len(data) // recipe.batch_size)} steps and what an epoch's end needs."
    )
    text = [table, waited]
    text.append(influence(run, test, 20 if options.small else TASK))
    text.append("\n".join(f"- {name}: {value}" for name, value in machine.bench().items()))
    if options.small:
        print("\n\n".join(text))
    else:
        results.write("On a GPU", "\n\n".join(text))


if __name__ == "__main__":
    main()
