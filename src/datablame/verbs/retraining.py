"""Verbs that retrain and compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.recipe import Recipe
from datablame.verbs.judging import judge
from datablame.verbs.opening import RecipeLike, RunLike, flat, held, held_model, opened

if TYPE_CHECKING:
    from datablame.base.parts import Sliced
    from datablame.evaluation.ablation import Ablation
    from datablame.evaluation.comparison import Comparison
    from datablame.training.plan import Estimate
else:
    Ablation = Comparison = Estimate = Sliced = Any


def retrain(
    run: RunLike,
    *,
    seeds: int = 1,
    remove: float | None = None,
    by: str = "blend",
    recipe: RecipeLike | None = None,
    proof: int = 2,
    minutes: float | None = None,
    dry_run: bool = False,
    part: str | None = None,
) -> Comparison | Estimate | Sliced:
    """Retrain on the cleaned set, and with an equal number removed at random, and compare on the
    test set.

    Returns the comparison. Raises InputError where the run has not been judged, where cleaning
    would leave one class, and where its model was trained elsewhere and no recipe is given.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    seeds
        How many seeds to train each with.
    remove
        Judge first: drop this most suspect share, and nothing else.
    by
        The scores that --remove goes by: a name that `score` gave.
    recipe
        Train by this recipe, the set as it was too: a YAML file, or a name that `datablame methods`
        lists, such as retrain_small; by default by the run's own.
    proof
        Without a test set, on how many of the folds to try the cleaned set.
    minutes
        Train with as many seeds as fit into this.
    dry_run
        Only say what it would take: minutes, memory, disk.
    part
        3/8: do the third of eight shares of this, for an array of jobs; the same command without it
        then puts together what is there and does what is missing.
    """
    from datablame.base import processes, progress
    from datablame.base.parts import Part
    from datablame.evaluation.retraining import retraining, shared, trainings
    from datablame.training.auto import settle
    from datablame.training.plan import Plan, announced, estimate

    at_least(1, 1000, seeds=seeds)
    if minutes is not None and seeds != 1:
        raise InputError("--minutes chooses the number of seeds: leave out --seeds")
    if remove is None and by != "blend":
        raise InputError(
            "--by goes with --remove; without it the verdict that stands there is tried"
        )
    if isinstance(recipe, (str, Path)):
        recipe = Recipe.read(Path(recipe))
    share = Part.read(part) if part else None
    if share is not None and minutes is not None:
        raise InputError("each job would fit another number of seeds into --minutes: say --seeds")
    with held(run, patient=share is not None) as run:
        if run.elsewhere and (recipe is None or run.data.images is None):
            more = "" if run.data.images is None else ", or name a --recipe to train by"
            raise InputError(
                f"the model of {run.path} was trained elsewhere: datablame clean {run.path} --out "
                f"cleaned writes the set for a training of your own{more}"
            )
        other = settle(recipe.but(folds=0), run.data) if recipe is not None else None

        def planned(seeds: int) -> Plan:
            tests = len(run.test) if run.test is not None else 0
            crossed = run.recipe.folds if run.cross_fitted else 0
            how = run.recipe if other is None else other.but(folds=crossed)
            first = other is not None  # "before" is not there yet
            return Plan(how, len(run.data), tests, seeds, proof, first)

        if minutes is not None:
            seeds = _seeds_in(minutes, processes.agree(estimate(planned(1), run.data).minutes))
            progress.say(f"{minutes:g} minutes: {seeds} seeds")
        if dry_run:
            return estimate(planned(seeds), run.data)
        if remove is not None:
            judge(run, by, judge=f"remove,share={remove}")
        verdict = run.judged  # with what people decided
        if share is None:
            with announced(planned(seeds), run.data):
                return retraining(run, verdict, seeds, proof, other)
        every = trainings(run, verdict, seeds, proof, other)
    return shared(every, share)


def _seeds_in(minutes: float, each: float) -> int:
    """How many seeds fit. Raises InputError where none does."""
    if minutes < each:
        raise InputError(f"{minutes:g} minutes are too few: one seed needs about {each:.1f}")
    return min(int(minutes / each), 1000)


def ablate(
    run: RunLike,
    *signals: str,
    shares: Annotated[Sequence[float], Parameter(consume_multiple=True, negative=())] = (
        0.0,
        0.1,
        0.2,
        0.3,
        0.4,
        0.5,
    ),
    seeds: Annotated[Sequence[int], Parameter(consume_multiple=True, negative=())] = (
        0,
        1,
        2,
        3,
        42,
    ),
    noises: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    strengths: Annotated[Sequence[float], Parameter(consume_multiple=True, negative=())] = (
        0.1,
        0.2,
        0.5,
        0.7,
        1.0,
    ),
    part: str | None = None,
) -> Ablation | Sliced:
    """Leave out the most suspect share by a signal, or an equal number at random, retrain, and draw
    the accuracy.

    Returns a row per model; writes ablation.csv, ablation.parquet and a figure, one more for each
    noise and strength. What is trained is not trained again. Heads of a frozen encoder (--trainer
    linear_probe) are fitted all at once. Raises InputError for shares that leave one class.

    Parameters
    ----------
    run
        Folder of a run.
    signals
        Names from `datablame methods`.
    shares
        Shares of the training set that are left out.
    seeds
        Seeds of the retrained models.
    noises
        Noises on the pixels of the test images to try the models under: pixel_normal,
        pixel_uniform.
    strengths
        Strengths of these noises.
    part
        3/8: do the third of eight shares of this, for an array of jobs; the same command without it
        then puts together what is there and does what is missing.
    """
    from datablame.base import progress
    from datablame.base.parts import Part
    from datablame.evaluation.ablation import ablation, trainings
    from datablame.evaluation.retraining import shared
    from datablame.pages import ablation as page

    if part:
        share = Part.read(part)
        with held_model(run, patient=True) as run:
            every = trainings(run, flat(signals), shares, seeds)
        return shared(every, share)
    with held_model(run) as run:
        with progress.stage("ablate"):
            found = ablation(run, flat(signals), shares, seeds, noises, strengths)
        page.draw(run, found.rows)
    return found


def compare(before: RunLike, after: RunLike) -> Comparison:
    """Compare the test accuracy of two runs, paired on the same test images.

    Returns the comparison. Raises InputError where they were tested on different images.

    Parameters
    ----------
    before
        Folder of the first run.
    after
        Folder of the second run.
    """
    from datablame.evaluation.comparison import Tried, comparison
    from datablame.training.cross_validation import folds

    runs = opened(before), opened(after)
    if all(run.cross_fitted for run in runs):
        pairs = zip(*map(folds, runs), strict=False)
        return comparison(*(Tried([one.run], [other.run]) for one, other in pairs))
    return comparison(Tried([runs[0]], [runs[1]]))
