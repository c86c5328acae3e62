"""Retrain on the cleaned set, and on a set with an equal number removed at random: the proof of a
verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch

from datablame.analyses import scoring
from datablame.base import files, hashing, methods, progress
from datablame.base.errors import InputError, at_least
from datablame.dataset import Dataset
from datablame.evaluation.comparison import Comparison, Tried, comparison
from datablame.evaluation.oracle import BY_ORACLE, truthful
from datablame.recipe import Recipe
from datablame.run import Run
from datablame.training.cross_validation import Fold, folds
from datablame.training.fit import fit
from datablame.training.pace import threads_of
from datablame.verdict import DROP, FIX, Verdict

KINDS = ("before", "after", "control")
STANDING = "the verdict was tried as it stands: models that saw these test images had a part in it"


def retraining(
    run: Run, verdict: Verdict, seeds: int, proof: int = 2, recipe: Recipe | None = None
) -> Comparison:
    """Train before, after and control with each of `seeds` seeds by the run's recipe, or another
    that is settled, and compare; kept in comparison.json.

    A run with test images is tried on them. A cross-fitted run is tried on `proof` of its folds:
    the model that left out the fold is the net before, and what it says of its own training images
    is judged anew, so that no image on which is tested had a part in what is cleaned. Raises
    InputError where cleaning would leave fewer than two classes, and where there is nothing to test
    on.
    """
    at_least(1, proof=proof)
    mark = run.verdict_mark  # of what is tried: people may decide while it is
    if not run.cross_fitted:
        if run.test is None:
            raise InputError(
                f"{run.path} has neither test images nor folds to try the cleaned set on; audit "
                "with --folds 4, or name a test set with --test"
            )
        tried, caveat = [_tried(run, verdict, seeds, run.path.parent, recipe)], ""
    else:
        tried, caveat = _folds_tried(run, verdict, seeds, proof, recipe)
    with progress.stage("compare"):
        result = comparison(*tried, caveat=caveat)
    paths = {
        kind: [str(each.path) for part in tried for each in getattr(part, kind)] for kind in KINDS
    }
    facts = {"runs": paths, "verdict": mark}
    files.write_json(run.path / "comparison.json", result.to_json() | facts)
    return result


def _tried(run: Run, verdict: Verdict, seeds: int, out: Path, recipe: Recipe | None) -> Tried:
    by = recipe or run.recipe
    before: list[Run] = []
    after: list[Run] = []
    control: list[Run] = []
    for seed in range(by.seed, by.seed + seeds):
        cleaned = verdict.apply(run.data)
        if len(cleaned.labels.unique()) < 2:
            raise InputError(
                f"cleaning {run.path} would leave one class only; look at verdict.csv, or "
                "judge with a smaller share"
            )
        less = thinned(run.data, verdict, seed)
        before.append(trained(run, "before", run.data, by.but(seed=seed), out))
        after.append(trained(run, "after", cleaned, by.but(seed=seed), out))
        control.append(trained(run, "control", less, by.but(seed=seed), out))
    return Tried(before, after, control)


def _folds_tried(
    run: Run, verdict: Verdict, seeds: int, proof: int, recipe: Recipe | None
) -> tuple[list[Tried], str]:
    """Some folds with a verdict each, and what must be said of these.

    Labels of a fold are in doubt by the verdict of the next fold: neither before nor after made it.
    """
    every = folds(run)
    count, anew = min(proof, len(every)), _judge_of(run, verdict)
    several = every[: min(count + 1, len(every))]
    theirs = [verdict.take(fold.rest) for fold in several]
    verdicts = [
        anew(fold).standing(own) if anew else own for fold, own in zip(several, theirs, strict=True)
    ]
    tried = []
    for number, fold in enumerate(every[:count]):
        other = (number + 1) % len(several)
        place = torch.searchsorted(several[other].rest, fold.rows)
        doubt = torch.isin(verdicts[other].act[place], torch.tensor([DROP, FIX]))
        progress.say(f"proof on fold {number + 1}: {len(fold.rows):,} images that it left out")
        part = _tried(fold.run, verdicts[number], seeds, run.path / "proof", recipe)
        tried.append(dataclasses.replace(part, undoubted=~doubt))
    return tried, "" if anew else STANDING


def _judge_of(run: Run, verdict: Verdict) -> Callable[[Fold], Verdict] | None:
    """Judges a fold's training images as the run's were, by what the fold's own model says of them.

    None where that cannot be: a verdict that was edited by hand, scores of the caller's own, or
    held-out predictions, which a fold's model alone has not, or answers of another run.
    """
    judge, signals = verdict.by.removesuffix(BY_ORACLE), scoring.signals_of(verdict.scores)
    if signals is None or Verdict.edited(run.path / "verdict.csv"):
        return None
    if methods.parse(judge)[1].get("answers"):  # of a model that saw all folds
        return None
    needs = [methods.declared("signals", signal, "NEEDS") for signal in signals]
    if "heldout" in [methods.declared("judges", judge, "NEEDS"), *needs]:
        return None

    def judged(fold: Fold) -> Verdict:
        found = methods.find("judges", judge)(fold.run, scoring.blended(fold.run, signals))
        return truthful(found, fold.run.data) if verdict.by.endswith(BY_ORACLE) else found

    return judged


def thinned(data: Dataset, verdict: Verdict, seed: int) -> Dataset:
    """The set less a random sample as large as what the verdict drops."""
    left = hashing.permutation(len(data), "control", seed)[verdict.count(DROP) :]
    return data.take(left.sort().values)


def trained(run: Run, kind: str, data: Dataset, recipe: Recipe, out: Path) -> Run:
    """A recipe on other data than the run's, in `out`: the run itself where both are its own; a
    smaller set has smaller batches, so that the number of steps stays the same.
    """
    if data is run.data and recipe == run.recipe:
        return run
    batch = max(2, round(recipe.batch_size * len(data) / len(run.data)))
    other = Run.create(data, recipe.but(folds=0, batch_size=batch), run.test, out)
    with files.alone(other.path):
        if not other.finished:
            progress.say(f"retraining, seed {recipe.seed}: {kind} ({len(data):,} images)")
        fit(other, threads_of(run))
    return other
