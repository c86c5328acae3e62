"""Which signals, and which blend of them, find wrong labels best; and how well the judges count
them.

digits: uniform and pair noise, four amounts, three seeds. CIFAR-10, first 10,000 rows: human labels
(`worse`, `aggre`), uniform 20 % and 40 %, pair 20 %. Beside ours, on the same held-out
probabilities, cleanlab's confident learning. About 25 minutes on two cores; `--full` takes 50,000
rows and five seeds, for a GPU. Resumes where it was stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import results
import torch

import datablame as db
from datablame.base.methods import find
from datablame.dataset import Dataset
from datablame.evaluation.metrics import metrics
from datablame.label_quality.out_of_sample import heldout
from datablame.verdict import DROP, FIX

SIGNALS = [
    "loss",
    "entropy",
    "aum",
    "aum,since=0.5",
    "forgetting",
    "datamap",
    "datamap,statistic=variability",
    "el2n",
    "csl",
    "knn",
    "confident",
]
BLENDS = {
    "aum + confident": ("aum", "confident"),
    "aum since half + confident": ("aum,since=0.5", "confident"),
    "aum since half + knn + confident": ("aum,since=0.5", "knn", "confident"),
    "**aum + aum since half + knn + confident** (default)": (
        "aum",
        "aum,since=0.5",
        "knn",
        "confident",
    ),
    "aum since half + csl + knn + confident": ("aum,since=0.5", "csl", "knn", "confident"),
    "aum + csl + knn + confident": ("aum", "csl", "knn", "confident"),
    "all eleven": tuple(SIGNALS),
}
CIFAR = {
    "worse": "worse_label",
    "aggre": "aggre_label",
    "uniform 20 %": ("uniform", 0.2),
    "uniform 40 %": ("uniform", 0.4),
    "pair 20 %": ("pair", 0.2),
}


def digits(amount: float, kind: str, seed: int, out: Path) -> db.Run:
    train, test = db.load("digits").holdout(0.2, seed)
    return db.train(
        db.corrupt(train, noise=kind, amount=amount, seed=seed),
        recipe=db.Recipe(seed=seed),
        out=out,
        test=test,
    )


def cifar(kind: str, seed: int, out: Path, limit: int | None) -> db.Run:
    labels = CIFAR[kind]
    where, test = (
        results.SHARED / "train.parquet",
        dataclasses.replace(db.load(results.SHARED / "test.parquet"), split="test"),
    )
    if isinstance(labels, str):
        data = db.load(where, label=labels, truth="label", limit=limit)
    else:
        data = db.corrupt(
            db.load(where, label="label", limit=limit), noise=labels[0], amount=labels[1], seed=seed
        )
    return db.train(data, recipe=db.Recipe(seed=seed), out=out, test=test)


def cleanlab(run: db.Run) -> dict[str, torch.Tensor]:
    """cleanlab's two usual scores, turned so that higher is more suspect."""
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-not-found]  # of the extra `bench`

    p, labels = np.array(heldout(run), dtype=np.float64), run.data.labels.numpy()
    p /= p.sum(1, keepdims=True)
    return {
        f"cleanlab {method}": -torch.from_numpy(get_label_quality_scores(labels, p, method=method))
        for method in ("self_confidence", "normalized_margin")
    } | {
        "cleanlab normalized_margin, adjusted": -torch.from_numpy(
            get_label_quality_scores(labels, p, method="normalized_margin", adjust_pred_probs=True)
        )
    }


def measured(run: db.Run) -> dict[str, tuple[float, float]]:
    """(ROC-AUC, average precision) of every signal, blend and peer on one run."""
    wrong = wrong_of(run.data)
    scores = {name: db.score(run, name) for name in SIGNALS}
    values = {name: score.values for name, score in scores.items()}
    values |= {
        name: db.blend([scores[part] for part in parts]).values for name, parts in BLENDS.items()
    }
    values |= {
        "mean rank of the default four": torch.stack(
            [scores[n].ranks() for n in ("aum", "aum,since=0.5", "knn", "confident")]
        ).mean(0)
    }
    values |= cleanlab(run)
    return {
        name: ((m := metrics(v, wrong))["roc_auc"], m["average_precision"])
        for name, v in values.items()
    }


def wrong_of(data: Dataset) -> torch.Tensor:
    assert data.wrong is not None
    return data.wrong


def judged(run: db.Run, judge: str) -> list[str]:
    """What a judge says of a run, beside the truth."""
    wrong = wrong_of(run.data)
    verdict = find("judges", judge)(run, db.score(run))
    held, fixed = torch.isin(verdict.act, torch.tensor([DROP, FIX])), verdict.act == FIX
    both = (held & wrong).sum() / max(int(held.sum()), 1)
    right = (
        (verdict.proposed[fixed] == run.data.truth[fixed]).float().mean()
        if fixed.any() and run.data.truth is not None
        else 0
    )
    low, high = verdict.estimate[1:]
    return [
        f"{int(wrong.sum()):,}",
        f"{verdict.estimate[0]:,.0f} ({low:,.0f} to {high:,.0f})",
        f"{int(held.sum()):,}",
        f"{both:.2f}",
        f"{(held & wrong).sum() / max(int(wrong.sum()), 1):.2f}",
        f"{int(fixed.sum()):,}, {right:.0%} right",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="all 50,000 rows, five seeds; for a GPU"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/blend"))
    options = parser.parse_args()
    sets: dict[str, list[dict[str, tuple[float, float]]]] = {}
    verdicts: list[list[str]] = []
    for kind in ("uniform", "pair"):
        for amount in (0.02, 0.05, 0.1, 0.2, 0.4):
            runs = [
                digits(amount, kind, seed, options.out) for seed in range(5 if options.full else 3)
            ]
            sets.setdefault(f"digits {kind}", []).extend(measured(run) for run in runs)
            if kind == "uniform":
                verdicts += [
                    [f"digits uniform {amount:.0%}", judge, *judged(runs[0], judge)]
                    for judge in ("mixture", "confident")
                ]
    if results.SHARED.exists():
        for kind in CIFAR:
            runs = [
                cifar(kind, seed, options.out, None if options.full else 10_000)
                for seed in range(5 if options.full else 1)
            ]
            sets[f"CIFAR {kind}"] = [measured(run) for run in runs]
            verdicts += [
                [f"CIFAR {kind}", judge, *judged(runs[0], judge)]
                for judge in ("mixture", "confident")
            ]
    names = list(next(iter(sets.values()))[0])
    for what, place in (("ROC-AUC", 0), ("average precision", 1)):
        rows = []
        for name in names:
            means = [np.mean([each[name][place] for each in every]) for every in sets.values()]
            rows.append([name, *(f"{x:.4f}" for x in means), f"{np.mean(means):.4f}"])
        results.write(
            f"The default blend: {what}",
            "Mean over amounts (2, 5, 10, 20, 40 %) and seeds for digits; one seed for "
            "CIFAR-10 (10,000 rows, resnet9 of quarter width, "
            f"16 epochs, two folds).\n\n{results.table(['', *sets, 'mean'], rows)}"
            if not options.full
            else "Full size: 50,000 rows, five "
            f"seeds.\n\n{results.table(['', *sets, 'mean'], rows)}",
        )
    head = [
        "set",
        "judge",
        "wrong",
        "estimate (95 %)",
        "held to be wrong",
        "precision",
        "recall",
        "fixed",
    ]
    results.write("How many labels are wrong: the judges' estimates", results.table(head, verdicts))


if __name__ == "__main__":
    main()
