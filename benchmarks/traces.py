"""Traces whose wrong labels are known: those that the shipped detector is taught on, and those that
it is tried on.

`python benchmarks/traces.py teach --out DIR` takes about three hours on one core; a second call
goes on where the first stopped. Teaching uses CIFAR-10's rows from 10,000 on, with noise that is
made and with labels that people gave, and clouds of points; trying uses the first 10,000 rows, and
`digits`.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import results
import torch

import datablame as db

FIRST, SLICE = 10_000, 5_000
SUB = 6
"""Parts of each class where many classes are wanted."""

FEW = [
    ("uniform", 0.2, 20), ("instance", 0.2, 16), ("pair", 0.2, 20), ("instance", 0.1, 24), ("uniform", 0.1, 12),
    ("instance", 0.4, 20), ("pair", 0.1, 16), ("uniform", 0.4, 24), ("instance", 0.3, 12), ("asym_cifar10", 0.3, 20),
    ("uniform", 0.05, 16), ("pair", 0.3, 24), ("instance", 0.15, 20), ("uniform", 0.3, 30), ("instance", 0.05, 20),
    ("asym_cifar10", 0.2, 12),
]  # fmt: skip
EASY = [
    ("uniform", 0.1, 20, (0, 1, 6)), ("pair", 0.2, 16, (1, 6, 7)), ("instance", 0.1, 20, (1, 4, 8)), ("uniform", 0.3, 24, (0, 6, 7, 9)),
    ("pair", 0.1, 24, (2, 8, 9)), ("uniform", 0.05, 30, (0, 1, 6, 7, 8)), ("instance", 0.2, 16, (0, 1, 4, 5, 6)), ("uniform", 0.1, 16, (6, 9)),
]  # fmt: skip
"""A few classes that are told apart easily: nets that are nearly always right leave other
traces."""
FITTED = [
    ("mlp", "uniform", 0.2, 30, (0, 1, 6)), ("mlp", "pair", 0.2, 30, (1, 6, 7)), ("mlp", "instance", 0.2, 30, (1, 4, 8)),
    ("mlp", "uniform", 0.1, 20, (0, 6, 7, 9)), ("mlp", "pair", 0.1, 24, (2, 8, 9)), ("mlp", "uniform", 0.4, 40, (0, 1, 6, 7, 8)),
    ("mlp", "instance", 0.1, 24, (0, 1, 4, 5, 6)), ("mlp", "pair", 0.3, 40, (0, 1, 6, 7, 9)),
    ("resnet9,width=0.25", "uniform", 0.2, 30, ()), ("resnet9,width=0.25", "pair", 0.2, 30, ()), ("resnet9,width=0.25", "instance", 0.2, 30, ()),
    ("resnet9,width=0.25", "uniform", 0.1, 24, (0, 1, 6)), ("resnet9,width=0.25", "pair", 0.1, 40, ()), ("resnet9,width=0.25", "uniform", 0.4, 40, ()),
    ("resnet9,width=0.25", "instance", 0.3, 40, ()), ("resnet9,width=0.25", "pair", 0.15, 24, (1, 6, 7, 8)),
    ("resnet9,width=0.25", "asym_cifar10", 0.3, 30, ()), ("resnet9,width=0.25", "instance", 0.1, 24, (0, 1, 4, 5, 6)),
]  # fmt: skip
"""Runs on half a slice without random changes of the images, long enough that nets have learned the
wrong labels by heart."""
HUMAN = [
    ("aggre_label", 16, False), ("worse_label", 20, False), ("random_label1", 12, False),
    ("aggre_label", 30, True), ("worse_label", 40, True), ("random_label2", 24, True),
]  # fmt: skip
"""Labels that people gave, seen before nets have fitted them, and after."""
MANY = [
    ("uniform", 0.3, 20), ("instance", 0.3, 24), ("pair", 0.3, 20), ("uniform", 0.4, 24), ("instance", 0.4, 16),
    ("pair", 0.2, 16), ("uniform", 0.2, 30), ("instance", 0.2, 20),
]  # fmt: skip
CLOUDS = [
    ("uniform", 0.2), ("pair", 0.2), ("instance", 0.2), ("uniform", 0.1), ("pair", 0.1),
    ("instance", 0.1), ("uniform", 0.4), ("instance", 0.35), ("pair", 0.35), ("uniform", 0.05),
]  # fmt: skip
COUNT = 40
"""Sets of points, each class a few clouds; two of three are learned by heart. Seconds each."""
GRID = {
    "digits": [("uniform", 0.2), ("pair", 0.15), ("instance", 0.2)],
    "cifar": [("uniform", 0.2), ("pair", 0.15), ("instance", 0.2), ("aggre_label", 0.0), ("worse_label", 0.0)],
}  # fmt: skip
"""Sets and noises of runs that taught no detector and chose nothing, each before nets have fitted
the noise and after."""


@functools.cache
def cifar(label: str = "label") -> db.Dataset:
    reading = db.Reading(label=label, truth="label" if label != "label" else None)
    from datablame.verbs.reading import read

    data = read(str(results.SHARED / "train.parquet"), "train", reading)
    assert data is not None
    return data


def divided(data: db.Dataset) -> db.Dataset:
    """The set with each class cut into parts that look alike: k-means on small grey pictures and
    mean colours.
    """
    from sklearn.cluster import KMeans

    images = torch.cat(
        [data.batch(rows)[0].float() for rows in torch.arange(len(data)).split(4096)]
    )
    seen = torch.nn.functional.adaptive_avg_pool2d(images, 6).flatten(1)
    labels = torch.zeros(len(data), dtype=torch.long)
    for k in range(len(data.classes)):
        rows = (data.labels == k).nonzero()[:, 0]
        part = KMeans(SUB, n_init="auto", random_state=0).fit_predict(seen[rows].numpy())
        labels[rows] = k * SUB + torch.from_numpy(part).long()
    classes = tuple(f"{name} {part}" for name in data.classes for part in range(SUB))
    return dataclasses.replace(data, labels=labels, classes=classes)


def between(data: db.Dataset, classes: tuple[int, ...]) -> db.Dataset:
    """The first images from FIRST on that are of these classes, as many as a slice has."""
    chosen = torch.tensor(classes)
    rows = torch.isin(data.labels, chosen).nonzero()[:, 0]
    part = data.take(rows[rows >= FIRST][:SLICE])
    place = (part.labels[:, None] == chosen).long().argmax(1)
    return dataclasses.replace(part, labels=place, classes=tuple(data.classes[k] for k in classes))


def slice_of(data: db.Dataset, turn: int) -> db.Dataset:
    start = FIRST + SLICE * (turn % ((len(data) - FIRST) // SLICE))
    return data.take(torch.arange(start, start + SLICE))


def by_heart(model: str, epochs: int, seed: int) -> db.Recipe:
    """Of a run that fits wrong labels too: no random changes, a rate that drops."""
    return db.Recipe(
        model=model, epochs=epochs, batch_size=64, folds=0, seed=seed, top_k=5, augment="none",
        lr=0.1, schedule="step,at=0.5,by=0.1",
    )  # fmt: skip


def recipe(epochs: int, width: float, seed: int) -> db.Recipe:
    return db.Recipe(
        model=f"resnet9,width={width}", epochs=epochs, batch_size=128, folds=0, seed=seed, top_k=5
    )


def trained(
    data: db.Dataset, how: db.Recipe, out: Path, noise: str | None = None, amount: float = 0.0
) -> db.Run:
    """The finished run of a recipe, made if it is not there."""
    from datablame.verbs.reading import planted

    data = planted(data, noise, amount, how.seed) if noise else data
    return db.train(data, recipe=how, reading=db.Reading(holdout=0.0), out=out)


def cloud(turn: int) -> db.Dataset:
    """A set of points of 2 to 20 classes, more or less apart, all drawn by its number."""
    draw = np.random.default_rng(turn)
    classes, rows, dims, parts = (
        int(draw.choice(each)) for each in ((2, 3, 4, 6, 10, 20), (600, 1200, 2500, 4000), (16, 32, 64), (1, 2, 4))
    )  # fmt: skip
    spread = float(draw.uniform(0.5, 1.4))
    centres = draw.normal(size=(classes, parts, dims))
    label, part = draw.integers(0, classes, rows), draw.integers(0, parts, rows)
    apart = spread * draw.normal(size=(rows, dims)) * np.sqrt(dims) / 8
    points = centres[label, part] + apart * draw.uniform(0.6, 1.6, size=(rows, 1))
    names = [str(k) for k in range(classes)]
    return db.Dataset.from_features(points.astype("float32"), label, names, truth=label)


def clouds(out: Path) -> list[db.Run]:
    """Runs of a perceptron on COUNT sets of points."""
    runs = []
    for turn in range(COUNT):
        data, (noise, amount) = cloud(turn), CLOUDS[turn % len(CLOUDS)]
        epochs = int(np.random.default_rng(turn + 99).choice([12, 20, 30, 40]))
        early = db.Recipe(model="mlp", epochs=epochs, folds=0, seed=turn)
        how = early if turn % 3 == 0 else by_heart("mlp", epochs, turn).but(top_k=0)
        if len(data.classes) == 2 and noise != "uniform":
            amount = min(amount, 0.2)
        runs.append(trained(data, how, out, noise, amount))
    return runs


def teaching(out: Path) -> list[db.Run]:
    """All runs that the shipped detector is taught on, trained if they are not there."""
    whole = cifar()
    plan = [(slice_of(whole, turn), *each, turn) for turn, each in enumerate(FEW)]
    plan += [(between(whole, classes), *each, turn) for turn, (*each, classes) in enumerate(EASY)]
    many = divided(whole)
    plan += [(slice_of(many, turn), *each, turn) for turn, each in enumerate(MANY)]
    runs = [
        trained(data, recipe(epochs, 0.25, turn), out, noise, amount)
        for data, noise, amount, epochs, turn in plan
    ]
    return [*clouds(out), *by_heart_too(out), *runs]


def by_heart_too(out: Path) -> list[db.Run]:
    """Runs in which wrong labels were learned by heart, and runs on human labels."""
    whole, runs = cifar(), []
    for turn, (model, noise, amount, epochs, classes) in enumerate(FITTED):
        data = between(whole, classes) if classes else slice_of(whole, turn)
        data = data.take(torch.arange(SLICE // 2))
        runs.append(trained(data, by_heart(model, epochs, turn), out, noise, amount))
    for turn, (column, epochs, fitted) in enumerate(HUMAN):
        data = slice_of(cifar(column), turn + 1)
        if fitted:
            data = data.take(torch.arange(SLICE // 2))
        how = by_heart("resnet9,width=0.25", epochs, turn) if fitted else recipe(epochs, 0.25, turn)
        runs.append(trained(data, how, out))
    return runs


def grid(out: Path, seeds: int, sets: Sequence[str] = tuple(GRID)) -> dict[str, list[db.Run]]:
    """By name, such as "digits pair fitted", the runs of all seeds."""
    found: dict[str, list[db.Run]] = {}
    for name in sets:
        for noise, amount in GRID[name]:
            for fitted in (False, True):
                title = f"{name} {noise.removesuffix('_label')} {'fitted' if fitted else 'early'}"
                found[title] = [
                    _tried(name, noise, amount, fitted, seed, out) for seed in range(seeds)
                ]
    return found


def _tried(name: str, noise: str, amount: float, fitted: bool, seed: int, out: Path) -> db.Run:
    if name == "digits":
        how = by_heart("mlp", 20, seed) if fitted else db.Recipe(folds=0, seed=seed, top_k=5)
        return trained(db.load("digits"), how, out, noise, amount)
    column = "label" if amount else noise
    data = cifar(column).take(torch.arange(4000 * seed, 4000 * (seed + 1)))
    how = by_heart("resnet9,width=0.25", 30, seed) if fitted else recipe(12, 0.25, seed)
    return trained(data, how, out, noise if amount else None, amount)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="?", default="teach", choices=["teach", "grid"])
    parser.add_argument("--out", type=Path, default=results.OUT)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if options.what == "teach":
        teaching(options.out)
        return
    grid(options.out, options.seeds)


if __name__ == "__main__":
    main()
