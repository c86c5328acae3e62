"""Linear datamodeling score: does the sum of an example's links say what models retrained on random
halves answer?

Park et al., 2023 (TRAK), section 4. arXiv:2303.14186. `python benchmarks/faithful.py` takes some
ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import results
import torch
from scipy.stats import rankdata
from torch import Tensor

import datablame as db
from datablame.base import hashing, methods
from datablame.influence.factors import Factors, margin
from datablame.influence.fisher import Fisher
from datablame.influence.index import Index

RECIPE = db.Recipe(folds=0, checkpoints=5)
LINKS = [
    "influence",
    "influence,rank=none",
    "influence,rank=32",
    "influence,labels=given",
    "influence,labels=all",
    "influence,damping=1%",
    "influence,damping=100%",
    "influence,damping=1000%",
    "influence,kind=kfac",
    "influence,kind=diagonal",
    "influence,kind=identity",
    "tracin",
    "similarity",
]


def halves(run: db.Run, models: int, seeds: int, out: Path) -> tuple[Tensor, Tensor]:
    """(which rows each model was trained on `[models, N]`, its log-odds of each test image's
    label `[models, Q]`, mean over seeds).
    """
    n = len(run.data)
    inside = torch.zeros(models, n)
    said = torch.zeros(models, len(run.test or ()))
    for model in range(models):
        rows = hashing.permutation(n, "half", model)[: n // 2].sort().values
        inside[model, rows] = 1
        for seed in range(seeds):
            recipe = run.recipe.but(seed=1000 + seed, checkpoints=0)
            reading = db.Reading(keep_leaks=True)  # each half answers all of the test images
            half = db.train(
                run.data.take(rows), recipe=recipe, reading=reading, test=run.test, out=out
            )
            assert half.test is not None
            images, labels = half.test.batch(torch.arange(len(half.test)))
            with torch.no_grad():
                said[model] -= margin(half.model(images), labels).cpu() / seeds
    return inside, said


def agreement(scores: Tensor, inside: Tensor, said: Tensor) -> np.ndarray:
    """Spearman correlation over models of each query: what the links add up to against what the
    models said.
    """
    told = inside @ scores.float().T
    return np.array(
        [np.corrcoef(rankdata(told[:, q]), rankdata(said[:, q]))[0, 1] for q in range(len(scores))],
        dtype=float,
    )


def interval(values: np.ndarray, seed: int = 0) -> str:
    """Mean and its 95 % interval by resampling the queries."""
    generator = np.random.default_rng(seed)
    means = [values[generator.integers(len(values), size=len(values))].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():.3f} ({low:.3f} to {high:.3f})"


def every(run: db.Run) -> dict[str, Tensor]:
    """All scores `[Q, N]` of each kind of link, and of the index."""
    assert run.test is not None
    queries, rows = torch.arange(len(run.test)), torch.arange(len(run.data))
    found = {}
    for link in LINKS:
        pairs = methods.find("attributors", link)(run, run.test)
        found[link] = pairs.score(pairs.prepare(queries), rows).cpu()
    for block in (8, 32):
        index = Index(Factors(run, Fisher()).fit(), block)
        found[f"index of influence, block {block}"] = index.scores(index.asked(run.test, "margin"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="faithful-"))
    columns: dict[str, list[str]] = {}
    names = {"early": dataclasses.replace(RECIPE, epochs=8), "whole": RECIPE}
    for recipe in names.values():
        run = db.train("digits", recipe=recipe, noise="uniform", amount=0.1, out=out)
        inside, said = halves(run, options.models, options.seeds, out)
        for name, scores in every(run).items():
            columns.setdefault(name, []).append(interval(agreement(scores, inside, said)))
    results.write(
        "Faithfulness: the linear datamodeling score",
        f"`digits` with 10 % wrong labels, MLP; {options.models} random halves, retrained "
        f"with {options.seeds} seeds each, whose mean log-odds of 359 test images are "
        "predicted; Spearman correlation over the halves, mean over the test images with "
        "its 95 % interval. "
        "Half way: 8 epochs, before the wrong labels are fitted; to the end: the default "
        "recipe, after.\n\n"
        + results.table(
            ["links", "half way", "to the end"],
            [[f"`{name}`", *cells] for name, cells in columns.items()],
        ),
    )


if __name__ == "__main__":
    main()
