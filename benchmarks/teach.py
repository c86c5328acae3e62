"""Teach the two detectors that come with the package, on the traces of `traces.py teach`; first what they see is chosen by leaving runs out.

`python benchmarks/teach.py --out DIR` compares views and losses; with `--write` the detectors are taught and written into the package.
No trace of the sets that detectors are tried on, and no human label, is used here.
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
from datablame.evidence.detector import SHIPPED, Detector
from datablame.ground import draw
from datablame.proof.teaching import teach

ALONE = "z_margin+class_margin+z_entropy"
TRIES = {
    "given": (db.Sight(views="given", readers=1), db.Lesson()),
    "z_margin": (db.Sight(views="z_margin", readers=1), db.Lesson()),
    "ranks": (db.Sight(views="right+rank_given+rank_margin+rank_entropy", readers=1), db.Lesson()),
    "the defaults, no confusions": (db.Sight(views=ALONE, readers=1), db.Lesson()),
    "the defaults, no sure confusions": (db.Sight(views=ALONE + "+lift+asymmetry+skew", readers=1), db.Lesson()),
    "the defaults, with top1 to top3": (db.Sight(views=db.Sight().views + "+top1+top2+top3", readers=1), db.Lesson()),
    "the defaults, cross-entropy": (db.Sight(readers=1), db.Lesson(loss="cross_entropy")),
    "the defaults, one reader": (db.Sight(readers=1), db.Lesson()),
    "**the defaults**": (db.Sight(), db.Lesson()),
}
PRIORS = (0, 0.25, 0.5, 0.75, 1)
"""Shares of the late margin, which fall where noise follows the class; half was best on uniform and instance noise in both ways of leaving out."""
HAND = ("aum", "aum,since=0.5", "csl", "datamap", "el2n", "loss")


def fresh(sight: db.Sight, lesson: db.Lesson) -> Detector:
    with draw.seeded("detector", lesson.seed):
        return Detector(sight)


def precision(run: db.Run, values: object) -> float:
    assert run.data.wrong is not None
    return float(average_precision_score(run.data.wrong.numpy(), values))


def kinds(runs: Sequence[db.Run]) -> list[str]:
    return [str(run.data.extra["planted"]).split()[0] for run in runs]


def precisions(
    runs: Sequence[db.Run], fold: Sequence[object], sight: db.Sight, lesson: db.Lesson, priors: Sequence[float] = ()
) -> dict[float, list[float]]:
    """Average precision on each run of a detector that was taught on the runs of the other folds, with each share of the prior."""
    found = {prior: [0.0] * len(runs) for prior in priors or [sight.prior]}
    for out in sorted(set(fold), key=str):
        detector = teach([r for r, f in zip(runs, fold, strict=True) if f != out], fresh(sight, lesson), lesson)
        for place, run in enumerate(runs):
            for prior in found if fold[place] == out else ():
                detector.sight = dataclasses.replace(sight, prior=prior)
                found[prior][place] = precision(run, detector.chances(run)[:, -1])
    return found


def choose(runs: Sequence[db.Run]) -> str:
    """Average precision on runs that were left out of the teaching, of every way to teach and of hand-made signals."""
    of = kinds(runs)
    lines = []

    def line(name: str, each: list[float]) -> None:
        means = [statistics.fmean(x for x, k in zip(each, of, strict=True) if k == kind) for kind in sorted(set(of))]
        lines.append([name, *(f"{x:.3f}" for x in means), f"{statistics.fmean(each):.4f}"])
        print(lines[-1], flush=True)

    for name in HAND:
        line(f"`{name}`", [precision(run, db.score(run, name).values) for run in runs])
    quarters = [turn % 4 for turn in range(len(runs))]
    for name, (sight, lesson) in TRIES.items():
        shares = precisions(
            runs, quarters, sight, lesson, PRIORS if sight == db.Sight() and lesson == db.Lesson() else [0]
        )
        for prior, each in shares.items():
            line(name + (f", prior={prior:g}" if prior else ""), each)
    for prior, each in precisions(runs, of, db.Sight(), db.Lesson(), PRIORS).items():
        line(f"**the defaults**, prior={prior:g}, the kind never seen", each)
    return results.table(["", *(f"{kind} ({of.count(kind)})" for kind in sorted(set(of))), "mean"], lines)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=results.OUT, help="where the traces are, or are to be made")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", type=int, help="only so many traces")
    options = parser.parse_args()
    schools = traces.teaching(options.out, options.count, ["few", "many"] if options.write else ["few"])
    if not options.write:
        table = choose(schools["few"])
        results.write(
            "How a detector is taught",
            f"Average precision on runs that were left out of the teaching, a quarter of them at a time (in the last lines all of one kind of noise); without the prior where none is named; {len(schools['few'])} traces of "
            f"CIFAR-10's rows from 10,000 on, 5,000 rows each, quarter-width ResNet-9, 12 to 30 epochs; no human label is used.\n\n{table}",
        )
        return
    for name, runs in schools.items():
        taught = teach(runs, fresh(db.Sight(), db.Lesson()), db.Lesson())
        taught.save(SHIPPED / f"{name}.safetensors")
        print(name, taught.about["held_out"], len(runs), "runs")


if __name__ == "__main__":
    main()
