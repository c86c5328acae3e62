"""Teach the detector that comes with the package, on the traces of `traces.py teach`; first, what it
is made of is tried by leaving runs out.

`python benchmarks/teach.py --out DIR` compares nets and losses; with `--write` the detector is
taught and written into the package. No trace of the grid that it is tried on is used here.
"""

from __future__ import annotations

import argparse
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

CONFIG, TRAINING = db.DetectorConfig(), db.DetectorTraining()
TRIES = {
    "an LSTM on the same views, one member": (
        db.DetectorConfig(net="lstm", hidden=8, members=1), TRAINING
    ),
    "**the reader**, one member": (db.DetectorConfig(members=1), TRAINING),
}  # fmt: skip
HAND = ("aum", "aum,since=0.5", "csl", "datamap", "el2n", "loss", "forgetting", "entropy")


def fresh(config: db.DetectorConfig, training: db.DetectorTraining) -> Detector:
    with hashing.seeded("detector", training.seed):
        return Detector(config)


def precision(run: db.Run, values: object) -> float:
    assert run.data.wrong is not None
    return float(average_precision_score(run.data.wrong.numpy(), values))


def kind(run: db.Run) -> str:
    return str(run.data.noise or "human").split()[0]


def left_out(
    runs: Sequence[db.Run], config: db.DetectorConfig, training: db.DetectorTraining
) -> list[float]:
    """Average precision on each run of a detector that was taught on the runs of other quarters."""
    found = [0.0] * len(runs)
    for quarter in range(4):
        others = [run for place, run in enumerate(runs) if place % 4 != quarter]
        detector = teach(others, fresh(config, training), training)
        for place in range(quarter, len(runs), 4):
            found[place] = precision(runs[place], detector.probabilities(runs[place]))
    return found


def choose(runs: Sequence[db.Run]) -> str:
    """Average precision on runs that were left out, of hand-made signals and of detectors."""
    kinds = [kind(run) for run in runs]
    each = {name: [precision(run, db.score(run, name).values) for run in runs] for name in HAND}
    best = [max(column) for column in zip(*each.values(), strict=True)]
    rows = {f"`{name}`": values for name, values in each.items()} | {"best of these": best}
    for name, (config, training) in TRIES.items():
        rows[name] = left_out(runs, config, training)
        print(name, statistics.fmean(rows[name]), flush=True)
    lines = []
    for name, values in rows.items():
        means = [
            statistics.fmean(x for x, k in zip(values, kinds, strict=True) if k == which)
            for which in sorted(set(kinds))
        ]
        behind = [x - b for x, b in zip(values, best, strict=True)]
        beaten = sum(x < -0.01 for x in behind)
        lines.append([name, *(f"{x:.3f}" for x in (*means, statistics.fmean(values))), str(beaten)])
    head = [f"{which} ({kinds.count(which)})" for which in sorted(set(kinds))]
    return results.table(["", *head, "mean", "runs more than .01 behind the best"], lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--out", type=Path, default=results.OUT, help="where the traces are, or are to be made"
    )
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    runs = traces.teaching(options.out)
    if options.write:
        taught = teach(runs, fresh(CONFIG, TRAINING), TRAINING)
        taught.save(SHIPPED)
        print(taught.about["held_out"], len(runs), "runs")
        return
    results.write(
        "How a detector is taught",
        "Average precision on runs that were left out of the teaching, a quarter of them at a time: "
        f"{len(runs)} runs, of CIFAR-10's rows from 10,000 on (2,500 or 5,000 at a time; "
        "quarter-width ResNet-9 and a perceptron; noise that is made, and labels that people gave), "
        f"and of clouds of points; before nets have learned the wrong labels and after.\n\n"
        f"{choose(runs)}",
    )


if __name__ == "__main__":
    main()
