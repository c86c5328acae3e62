"""Teach the two detectors that come with the package, on the traces of `traces.py teach`; first what they see is chosen by leaving kinds out.

`python benchmarks/teach.py --out DIR --choose` compares views and losses; without `--choose` the detectors are taught and written.
No trace of the sets that detectors are tried on, and no human label, is used here.
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
from datablame.evidence.detector import SHIPPED, Detector
from datablame.ground import draw
from datablame.lesson import PAPER
from datablame.proof.teaching import teach

TRIES = {
    "the paper's": PAPER,
    "given": (db.Sight(views="given"), db.Lesson()),
    "given, ranked": (db.Sight(views="given+rank_given"), db.Lesson()),
    "given, rival": (db.Sight(views="given+rival"), db.Lesson()),
    "the defaults, cross-entropy": (db.Sight(), db.Lesson(loss="cross_entropy")),
    "the defaults": (db.Sight(), db.Lesson()),
    "with class_margin": (db.Sight(views=db.Sight().views + "+class_margin"), db.Lesson()),
    "with class_given, class_margin": (db.Sight(views=db.Sight().views + "+class_given+class_margin"), db.Lesson()),
    "with steady": (db.Sight(views=db.Sight().views + "+steady"), db.Lesson()),
    "with top1 to top3": (db.Sight(views=db.Sight().views + "+top1+top2+top3"), db.Lesson()),
    "ranks alone": (db.Sight(views="right+rank_given+rank_margin+rank_entropy"), db.Lesson()),
    "rate 0.01": (db.Sight(), db.Lesson(rate=0.01)),
    "24 passes": (db.Sight(), db.Lesson(epochs=24)),
    "16 times": (db.Sight(points=16), db.Lesson()),
    "hidden 32": (db.Sight(hidden=32), db.Lesson()),
}
HAND = ("aum", "aum,since=0.5", "csl", "datamap", "el2n", "loss")


def fresh(sight: db.Sight, lesson: db.Lesson) -> Detector:
    with draw.seeded("detector", lesson.seed):
        return Detector(sight)


def precision(run: db.Run, values: object) -> float:
    assert run.data.wrong is not None
    return float(average_precision_score(run.data.wrong.numpy(), values))


def folds(runs: Sequence[db.Run]) -> list[tuple[list[db.Run], list[db.Run]]]:
    """(taught on, tried on): each kind of noise left out once."""
    kinds = sorted({run.data.extra["planted"] for run in runs})
    return [
        ([r for r in runs if r.data.extra["planted"] != k], [r for r in runs if r.data.extra["planted"] == k])
        for k in kinds
    ]


def choose(runs: Sequence[db.Run]) -> str:
    """Average precision on the kinds of noise that were left out, of every way to teach and of hand-made signals."""
    parts = folds(runs)
    head = ["", *(tried[0].data.extra["planted"] for _, tried in parts), "mean"]
    lines = []
    for name in HAND:
        each = [statistics.fmean(precision(r, db.score(r, name).values) for r in tried) for _, tried in parts]
        lines.append([f"`{name}`", *(f"{x:.3f}" for x in each), f"{statistics.fmean(each):.4f}"])
    for name, (sight, lesson) in TRIES.items():
        each = []
        for taught, tried in parts:
            detector = teach(taught, fresh(sight, lesson), lesson)
            each.append(statistics.fmean(precision(r, detector.chances(r)[:, -1]) for r in tried))
        lines.append([name, *(f"{x:.3f}" for x in each), f"{statistics.fmean(each):.4f}"])
        print(lines[-1], flush=True)
    return results.table(head, lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True, help="where the traces are, or are to be made")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--count", type=int, help="only so many traces")
    options = parser.parse_args()
    schools = traces.teaching(options.out, options.count)
    if options.choose:
        table = choose(schools["few"])
        results.write(
            "How a detector is taught",
            f"Average precision on the kinds of noise that were left out of the teaching, each in turn; {len(schools['few'])} traces of "
            f"CIFAR-10's rows from 10,000 on, 5,000 rows each, quarter-width ResNet-9, 12 to 30 epochs; no human label is used.\n\n{table}",
        )
        return
    for name, runs in schools.items():
        best = max(
            (teach(runs, fresh(db.Sight(), each), each) for each in (db.Lesson(seed=s) for s in range(3))),
            key=lambda d: d.about["held_out"]["average_precision"],
        )
        best.save(SHIPPED / f"{name}.safetensors")
        print(name, best.about["held_out"], len(runs), "runs")


if __name__ == "__main__":
    main()
