"""Teach the two detectors that come with the package, on the traces of `traces.py teach`; first
what they see is chosen by leaving runs out.

`python benchmarks/teach.py --out DIR` compares views and losses; with `--write` the detectors are
taught and written into the package. No trace of the sets that detectors are tried on, and no human
label, is used here.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

import results
import traces
from sklearn.metrics import average_precision_score

import datablame as db
from datablame.base import hashing
from datablame.dynamics.detector import SHIPPED, Detector
from datablame.evaluation.teaching import teach

ALONE = "z_margin+class_margin+z_entropy"
TRIES = {
    "given": (db.DetectorConfig(views="given", members=1), db.DetectorTraining()),
    "z_margin": (db.DetectorConfig(views="z_margin", members=1), db.DetectorTraining()),
    "ranks": (
        db.DetectorConfig(views="right+rank_given+rank_margin+rank_entropy", members=1),
        db.DetectorTraining(),
    ),
    "the defaults, no confusions": (
        db.DetectorConfig(views=ALONE, members=1),
        db.DetectorTraining(),
    ),
    "the defaults, no sure confusions": (
        db.DetectorConfig(views=ALONE + "+lift+asymmetry+skew", members=1),
        db.DetectorTraining(),
    ),
    "the defaults, with top1 to top3": (
        db.DetectorConfig(views=db.DetectorConfig().views + "+top1+top2+top3", members=1),
        db.DetectorTraining(),
    ),
    "the defaults, cross-entropy": (
        db.DetectorConfig(members=1),
        db.DetectorTraining(loss="cross_entropy"),
    ),
    "the defaults, one reader": (db.DetectorConfig(members=1), db.DetectorTraining()),
    "**the defaults**": (db.DetectorConfig(), db.DetectorTraining()),
}
PRIORS = (0, 0.25, 0.5, 0.75, 1)
"""Shares of the late margin, which fall where noise follows the class; half was best on uniform
and instance noise in both ways of leaving out."""
HAND = ("aum", "aum,since=0.5", "csl", "datamap", "el2n", "loss")


def fresh(config: db.DetectorConfig, training: db.DetectorTraining) -> Detector:
    with hashing.seeded("detector", training.seed):
        return Detector(config)


def precision(run: db.Run, values: object) -> float:
    assert run.data.wrong is not None
    return float(average_precision_score(run.data.wrong.numpy(), values))


def kinds(runs: Sequence[db.Run]) -> list[str]:
    return [str(run.data.noise).split()[0] for run in runs]


def precisions(
    runs: Sequence[db.Run],
    fold: Sequence[object],
    config: db.DetectorConfig,
    training: db.DetectorTraining,
    priors: Sequence[float] = (),
) -> dict[float, list[float]]:
    """Average precision on each run of a detector that was taught on the runs of the other
    folds, with each share of the prior.
    """
    found = {prior: [0.0] * len(runs) for prior in priors or [config.prior]}
    for out in sorted(set(fold), key=str):
        detector = teach(
            [r for r, f in zip(runs, fold, strict=True) if f != out],
            fresh(config, training),
            training,
        )
        for place, run in enumerate(runs):
            for prior in found if fold[place] == out else ():
                detector.config = dataclasses.replace(config, prior=prior)
                found[prior][place] = precision(run, detector.probabilities(run)[:, -1])
    return found


def choose(runs: Sequence[db.Run]) -> str:
    """Average precision on runs that were left out of the teaching, of every way to teach and of
    hand-made signals.
    """
    of = kinds(runs)
    lines = []

    def line(name: str, each: list[float]) -> None:
        means = [
            statistics.fmean(x for x, k in zip(each, of, strict=True) if k == kind)
            for kind in sorted(set(of))
        ]
        lines.append([name, *(f"{x:.3f}" for x in means), f"{statistics.fmean(each):.4f}"])
        print(lines[-1], flush=True)

    for name in HAND:
        line(f"`{name}`", [precision(run, db.score(run, name).values) for run in runs])
    quarters = [turn % 4 for turn in range(len(runs))]
    for name, (config, training) in TRIES.items():
        shares = precisions(
            runs,
            quarters,
            config,
            training,
            PRIORS if config == db.DetectorConfig() and training == db.DetectorTraining() else [0],
        )
        for prior, each in shares.items():
            line(name + (f", prior={prior:g}" if prior else ""), each)
    for prior, each in precisions(
        runs, of, db.DetectorConfig(), db.DetectorTraining(), PRIORS
    ).items():
        line(f"**the defaults**, prior={prior:g}, the kind never seen", each)
    return results.table(
        ["", *(f"{kind} ({of.count(kind)})" for kind in sorted(set(of))), "mean"], lines
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--out", type=Path, default=results.OUT, help="where the traces are, or are to be made"
    )
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", type=int, help="only so many traces")
    options = parser.parse_args()
    taught = traces.teaching(
        options.out, options.count, ["few", "many"] if options.write else ["few"]
    )
    if not options.write:
        table = choose(taught["few"])
        results.write(
            "How a detector is taught",
            "Average precision on runs that were left out of the teaching, a quarter of "
            "them at a time (in the last lines all of one kind of noise); without the "
            f"prior where none is named; {len(taught['few'])} traces of "
            "CIFAR-10's rows from 10,000 on, 5,000 rows each, quarter-width ResNet-9, 12 "
            f"to 30 epochs; no human label is used.\n\n{table}",
        )
        return
    for name, runs in taught.items():
        taught = teach(
            runs, fresh(db.DetectorConfig(), db.DetectorTraining()), db.DetectorTraining()
        )
        taught.save(SHIPPED / f"{name}.safetensors")
        print(name, taught.about["held_out"], len(runs), "runs")


if __name__ == "__main__":
    main()
