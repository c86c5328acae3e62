"""How many labels are wrong, which ones, and what they should be: the verdict beside the truth.

Sets are made of rows of CIFAR-10 that chose nothing else here (from 20,000 on), with human labels and
planted noise, and of digits: CHOSE holds those that choices were made on, LAST those that were looked
at once. Some runs are trained from scratch on few images, so that the model is weak; others are linear
probes on a net that learned from other rows. About 25 minutes on two cores, most of it the trainings,
which are kept; `--full` takes 10,000 rows a set, for a GPU.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import results
import torch

import datablame as db

HOME = results.OUT / "truth"
BEFORE = 20_000
"""The encoder learns from the rows before this one, sets are taken from those after it."""


@dataclass(frozen=True)
class Case:
    """A set and how its run is made."""

    noise: str
    """A column of human labels, or kind and share of planted noise."""
    first: int = 0
    """The row of CIFAR-10 from which they are taken; else the seed."""
    rows: int = 3000
    probe: bool = True
    """A linear probe on the encoder, or a net from scratch."""
    of: str = "cifar"
    shares: tuple[float, ...] = ()
    """Shares of each class that are kept, for an imbalance."""


STEEP = tuple(float(20 ** (-k / 9)) for k in range(10))
CHOSE = {
    "scratch, human 17 %": Case("random_label1", 20_000, 1500, probe=False),
    "scratch, clean": Case("none", 21_500, 1500, probe=False),
    "scratch, uniform 5 %": Case("uniform 0.05", 23_000, 1500, probe=False),
    "probe, human 40 %": Case("worse_label", 24_500),
    "probe, uniform 10 %": Case("uniform 0.1", 27_500),
    "probe, pair 20 %": Case("pair 0.2", 30_500),
    "probe, human 18 %": Case("random_label2", 32_000),
    "digits, uniform 1 %": Case("uniform 0.01", 0, 1797, probe=False, of="digits"),
    "100 classes, uniform 10 %": Case("uniform 0.1", 0, 3000, probe=False, of="two"),
}
LAST = {
    "scratch, human 9 %": Case("aggre_label", 35_000, 1500, probe=False),
    "scratch, uniform 30 %": Case("uniform 0.3", 36_500, 1500, probe=False),
    "probe, clean": Case("none", 38_000),
    "probe, human 9 %": Case("aggre_label", 41_000),
    "probe, uniform 2 %": Case("uniform 0.02", 44_000),
    "probe, uniform 40 %": Case("uniform 0.4", 47_000),
    "probe, instance 25 %": Case("instance 0.25", 35_000),
    "probe, 1:20, uniform 10 %": Case("uniform 0.1", 38_000, 9000, shares=STEEP),
    "probe, 300 images, human 17 %": Case("random_label3", 44_000, 300),
    "digits, clean": Case("none", 1, 1797, probe=False, of="digits"),
    "digits, pair 15 %": Case("pair 0.15", 2, 1797, probe=False, of="digits"),
    "100 classes, pair 25 %": Case("pair 0.25", 1, 3000, probe=False, of="two"),
}
"""No row of CIFAR-10 is in both; two digits beside each other make 100 classes."""


def cifar(label: str) -> db.Dataset:
    return db.load(results.SHARED / "train.parquet", label=label, truth="label")


def encoder() -> Path:
    """A net that learned from the rows before all sets."""
    data = cifar("label").take(np.arange(BEFORE))
    tests = db.load(results.SHARED / "test.parquet", limit=1000)
    recipe = db.Recipe(epochs=15, folds=0)
    return db.train(data, recipe=recipe, test=tests, out=HOME / "encoder").path


def two(rows: int, seed: int) -> db.Dataset:
    """Pictures of two digits beside each other: a hundred classes."""
    each = db.load("digits")
    images, labels = each.batch(torch.arange(len(each)))
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randint(len(each), (2, rows), generator=generator)
    both = torch.cat([images[left], images[right]], 3)
    classes = [f"{number:02d}" for number in range(100)]
    return db.Dataset.from_arrays(both, 10 * labels[left] + labels[right], classes, source="two")


def dataset(case: Case) -> db.Dataset:
    human = case.noise.endswith(("label", "label1", "label2", "label3"))
    if case.of == "cifar":
        data = cifar(case.noise if human else "label")
        data = data.take(case.first + np.arange(case.rows))
    else:
        data = db.load("digits") if case.of == "digits" else two(case.rows, case.first)
    if case.shares:
        draw = np.random.default_rng(0).random(len(data))
        data = data.take(np.flatnonzero(draw < np.array(case.shares)[data.labels.numpy()]))
    if not human and case.noise != "none":
        kind, _, amount = case.noise.partition(" ")
        data = db.corrupt(data, noise=kind, amount=float(amount), seed=case.first)
    return data


def made(case: Case, rows: int | None = None) -> db.Run:
    """The run of a case, trained or found."""
    data = dataset(case)
    recipe = db.Recipe(epochs=25) if case.of == "cifar" else db.Recipe(epochs=40)
    if case.probe:
        recipe = db.Recipe(model=f"frozen:{encoder()}", trainer="linear_probe")
    return db.train(data, recipe=recipe, reading=db.Reading(holdout=0.0), out=HOME / "runs")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, case in (CHOSE | LAST).items():
        run = made(case)
        wrong = run.data.wrong
        print(
            name,
            run.path,
            0 if wrong is None else int(wrong.sum()),
            run.heldout_agreement,
            flush=True,
        )
