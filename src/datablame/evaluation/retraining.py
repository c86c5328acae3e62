"""Retrain on the cleaned set, and on a set with an equal number removed at random: the proof of a
verdict.
"""

from __future__ import annotations

from datablame.base import files, hashing, progress
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.evaluation.comparison import Comparison, comparison
from datablame.run import Run
from datablame.training.fit import fit
from datablame.verdict import DROP, Verdict


def retraining(run: Run, verdict: Verdict, seeds: int) -> Comparison:
    """Train before, after and control with each of `seeds` seeds by the run's recipe, and compare;
    kept in comparison.json.

    Raises InputError where cleaning would leave fewer than two classes.
    """
    runs: dict[str, list[Run]] = {"before": [], "after": [], "control": []}
    for seed in range(run.recipe.seed, run.recipe.seed + seeds):
        sets = {
            "before": run.data,
            "after": verdict.apply(run.data),
            "control": thinned(run.data, verdict, seed),
        }
        if len(sets["after"].labels.unique()) < 2:
            raise InputError(
                f"cleaning {run.path} would leave one class only; look at verdict.csv, or "
                "judge with a smaller share"
            )
        for kind, data in sets.items():
            runs[kind].append(trained(run, kind, data, seed))
    with progress.stage("compare"):
        result = comparison(runs["before"], runs["after"], runs["control"])
    paths = {kind: [str(each.path) for each in every] for kind, every in runs.items()}
    facts = {"runs": paths, "verdict": files.digest_of(run.path / "verdict.csv")}
    files.write_json(run.path / "comparison.json", result.to_json() | facts)
    return result


def thinned(data: Dataset, verdict: Verdict, seed: int) -> Dataset:
    """The set less a random sample as large as what the verdict drops."""
    left = hashing.permutation(len(data), "control", seed)[verdict.count(DROP) :]
    return data.take(left.sort().values)


def trained(run: Run, kind: str, data: Dataset, seed: int) -> Run:
    """The run's recipe with another seed on other data, next to it; a smaller set has smaller
    batches, so that the number of steps stays the same.
    """
    if data is run.data and seed == run.recipe.seed:
        return run
    batch = max(2, round(run.recipe.batch_size * len(data) / len(run.data)))
    other = Run.create(
        data, run.recipe.but(seed=seed, folds=0, batch_size=batch), run.test, run.path.parent
    )
    with files.alone(other.path):
        if not other.finished:
            progress.say(f"retraining, seed {seed}: {kind} ({len(data):,} images)")
        fit(other)
    return other
