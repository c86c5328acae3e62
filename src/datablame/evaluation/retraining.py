"""Retrain on the cleaned set, and on a set with an equal number removed at random: the proof of a
verdict.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from datablame.analyses import scoring
from datablame.base import files, folders, hashing, methods, progress
from datablame.base.errors import InputError, at_least
from datablame.base.parts import Part, Sliced
from datablame.base.shapes import Bool
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
    trials, caveat = _trials(run, verdict, seeds, proof, recipe)
    tried = [trial.tried() for trial in trials]
    with progress.stage("compare"):
        result = comparison(*tried, caveat=caveat)
    paths = {
        kind: [str(each.path) for part in tried for each in getattr(part, kind)] for kind in KINDS
    }
    facts = {"runs": paths, "verdict": mark}
    files.write_json(run.path / "comparison.json", result.to_json() | facts)
    return result


def trainings(
    run: Run, verdict: Verdict, seeds: int, proof: int = 2, recipe: Recipe | None = None
) -> list[Training]:
    """What `retraining` trains, each once: what several machines can share."""
    trials, _ = _trials(run, verdict, seeds, proof, recipe)
    return unique([each for trial in trials for seed in trial.trainings for each in seed])


@dataclass(frozen=True, eq=False)
class Training:
    """A recipe on other data than the run's, in `out`; `kind` says what for."""

    run: Run
    kind: str
    data: Dataset
    recipe: Recipe
    out: Path

    @property
    def same(self) -> bool:
        """Whether it is the run's own."""
        return self.data is self.run.data and self.recipe == self.run.recipe

    def made(self) -> Run:
        """The run of it, trained if it is not: a smaller set has smaller batches, so that the
        number of steps stays the same.
        """
        if self.same:
            return self.run
        data, recipe = self.data, self.recipe
        least = 4 * recipe.accumulate if recipe.accumulate > 1 else 2
        batch = max(least, round(recipe.batch_size * len(data) / len(self.run.data)))
        how = recipe.but(folds=0, batch_size=batch)
        other = Run.create(data, how, self.run.test, self.out)
        with folders.alone(other.path):
            if not other.finished:
                what = f"seed {recipe.seed}: {self.kind} ({len(data):,} images)"
                progress.say(f"retraining, {what}")
            fit(other, threads_of(self.run))
        return other


def unique(every: Iterable[Training]) -> list[Training]:
    """Those that are another training than the run's and than those before."""
    found = {
        (each.data.fingerprint, each.recipe, each.out): each for each in every if not each.same
    }
    return list(found.values())


def shared(every: list[Training], part: Part) -> Sliced:
    """Do a part's trainings."""
    made = [str(each.made().path) for each in part.mine(every)]
    return Sliced(part, "trainings", made, len(every))


@dataclass(frozen=True, eq=False)
class Trial:
    """For each seed the trainings before, after and control; `undoubted` as in `Tried`."""

    trainings: list[tuple[Training, Training, Training]]
    undoubted: Bool[Tensor, " n"] | None = None

    def tried(self) -> Tried:
        runs = [tuple(each.made() for each in seed) for seed in self.trainings]
        before, after, control = (list(kind) for kind in zip(*runs, strict=True))
        return Tried(before, after, control, self.undoubted)


def _trials(
    run: Run, verdict: Verdict, seeds: int, proof: int, recipe: Recipe | None
) -> tuple[list[Trial], str]:
    """What is tried, and what must be said of it."""
    if run.cross_fitted:
        return _on_folds(run, verdict, seeds, proof, recipe)
    if run.test is None:
        raise InputError(
            f"{run.path} has neither test images nor folds to try the cleaned set on; audit "
            "with --folds 4, or name a test set with --test"
        )
    return [_trial(run, verdict, seeds, run.path.parent, recipe)], ""


def _trial(run: Run, verdict: Verdict, seeds: int, out: Path, recipe: Recipe | None) -> Trial:
    by, found = recipe or run.recipe, []
    for seed in range(by.seed, by.seed + seeds):
        cleaned = verdict.apply(run.data)
        if len(cleaned.labels.unique()) < 2:
            raise InputError(
                f"cleaning {run.path} would leave one class only; look at verdict.csv, or "
                "judge with a smaller share"
            )
        sets = run.data, cleaned, thinned(run.data, verdict, seed)
        before, after, control = (
            Training(run, kind, data, by.but(seed=seed), out)
            for kind, data in zip(KINDS, sets, strict=True)
        )
        found.append((before, after, control))
    return Trial(found)


def _on_folds(
    run: Run, verdict: Verdict, seeds: int, proof: int, recipe: Recipe | None
) -> tuple[list[Trial], str]:
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
    trials = []
    for number, fold in enumerate(every[:count]):
        other = (number + 1) % len(several)
        place = torch.searchsorted(several[other].rest, fold.rows)
        doubt = torch.isin(verdicts[other].act[place], torch.tensor([DROP, FIX]))
        progress.say(f"proof on fold {number + 1}: {len(fold.rows):,} images that it left out")
        part = _trial(fold.run, verdicts[number], seeds, run.path / "proof", recipe)
        trials.append(dataclasses.replace(part, undoubted=~doubt))
    return trials, "" if anew else STANDING


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
