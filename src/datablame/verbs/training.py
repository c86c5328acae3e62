"""Verbs that make runs: train, and import what was recorded elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.base.options import PART, Amount, Noise
from datablame.data.subset import Subset
from datablame.recipe import Experiment, Recipe
from datablame.verbs.opening import Source, fields_as_keywords, held, opened
from datablame.verbs.reading import AMOUNT, OF_TESTS, Reading, named, read, splits, unasked

if TYPE_CHECKING:
    from datablame.analyses.memory import MemoryTest
    from datablame.base.parts import Part, Sliced
    from datablame.dataset import Dataset
    from datablame.run import Run
    from datablame.training.plan import Estimate
else:
    Dataset = Estimate = MemoryTest = Part = Run = Sliced = Any


@overload
def train(
    data: Source,
    *,
    recipe: Recipe = ...,
    reading: Reading = ...,
    noise: str | None = ...,
    amount: float = ...,
    subset: Subset = ...,
    seeds: Literal[1] = 1,
    minutes: float | None = ...,
    dry_run: Literal[False] = False,
    part: None = None,
    out: Path | str = ...,
    test: Dataset | None = ...,
) -> Run: ...
@overload
def train(
    data: Source,
    *,
    recipe: Recipe = ...,
    reading: Reading = ...,
    noise: str | None = ...,
    amount: float = ...,
    subset: Subset = ...,
    seeds: int,
    minutes: float | None = ...,
    dry_run: Literal[False] = False,
    part: None = None,
    out: Path | str = ...,
    test: Dataset | None = ...,
) -> Run | MemoryTest: ...
@overload
def train(
    data: Source,
    *,
    recipe: Recipe = ...,
    reading: Reading = ...,
    noise: str | None = ...,
    amount: float = ...,
    subset: Subset = ...,
    seeds: int = ...,
    minutes: float | None = ...,
    dry_run: bool,
    part: None = None,
    out: Path | str = ...,
    test: Dataset | None = ...,
) -> Run | MemoryTest | Estimate: ...
@overload
def train(
    data: Source,
    *,
    recipe: Recipe = ...,
    reading: Reading = ...,
    noise: str | None = ...,
    amount: float = ...,
    subset: Subset = ...,
    seeds: int = ...,
    minutes: float | None = ...,
    dry_run: bool = ...,
    part: str,
    out: Path | str = ...,
    test: Dataset | None = ...,
) -> Sliced | Estimate: ...
@fields_as_keywords
def train(
    data: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    noise: Noise = None,
    amount: Amount = AMOUNT,
    subset: Annotated[Subset, Parameter(name="*", group=PART)] = Subset(),
    seeds: int = 1,
    minutes: float | None = None,
    dry_run: bool = False,
    part: str | None = None,
    out: Path | str = Path("runs"),
    test: Annotated[Dataset | None, Parameter(parse=False)] = None,
) -> Run | MemoryTest | Estimate | Sliced:
    """Train a model while recording what it says of every example; resumes if it was interrupted.

    Returns the run; with several `seeds`, mean and standard deviation of their test accuracy; with
    `dry_run`, an estimate of what it would take.
    Raises InputError where source, model and trainer do not fit, before anything is written, and
    RunError where the loss stops being finite.

    Parameters
    ----------
    data
        A source, as for `load`.
    noise
        Plant label noise for a trial: uniform, pair, instance, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    seeds
        Train this number of times, from the recipe's seed on, each with its own draw of --examples,
        and report mean and standard deviation of the accuracy; what is trained is not trained
        again.
    minutes
        Choose epochs and width of the net so that it takes about this long.
    dry_run
        Only say what it would take: minutes, memory, disk.
    part
        3/8: do the third of eight shares of --seeds or, of one seed, of the features of an encoder
        that does not train, for an array of jobs; the same command without it then puts together
        what is there and does what is missing.
    out
        Folder under which the run's own folder is made.
    test
        The test set, where `data` is a Dataset; by default a part of `data` is held out.
    """
    from datablame.base import files
    from datablame.base.parts import Part, Sliced
    from datablame.network.classifier import ready
    from datablame.run import Run
    from datablame.training import auto
    from datablame.training.plan import Plan, announced, estimate, within

    ready(recipe.model)
    at_least(1, 1000, seeds=seeds)
    files.refuse_inside(out, data)
    if test is not None:
        reading = dataclasses.replace(reading, test=test)
    planting = {"noise": noise, "amount": amount} if noise else {}
    options = named(data, reading, **planting, **subset.named())
    runs, share = [], Part.read(part) if part else None
    if share is not None and minutes is not None:
        raise InputError("each job would choose another net by --minutes: say --epochs and --model")
    if share is not None and seeds == 1 and not dry_run:
        train_set, test_set = splits(data, reading, noise, amount, recipe.seed)
        return shared_features(
            recipe, chosen(train_set, subset, recipe.seed, str(data)), test_set, share
        )
    every = range(recipe.seed, recipe.seed + seeds)
    for seed in share.mine(every) if share else every:
        train_set, test_set = splits(data, reading, noise, amount, seed)
        images = chosen(train_set, subset, seed, str(data))
        settled = auto.settle(recipe.but(seed=seed), images, test_set is not None)
        if seeds > 1 and test_set is None and settled.folds < 2:
            raise InputError(
                "several --seeds are compared on test images, and there are none: name some with "
                "--test, or leave out --holdout 0"
            )

        def planned(
            settled: Recipe, rows: int = len(images), tests: int = len(test_set or ())
        ) -> Plan:
            return Plan(settled, rows, tests, times=seeds)

        if minutes is not None:
            asked = recipe.but(seed=seed, folds=settled.folds)
            settled = within(minutes, asked, images, Path(out), planned)
        if dry_run:
            return estimate(planned(settled), images)
        there = Run.there(images, settled, test_set, out) is not None
        with announced(dataclasses.replace(planned(settled), times=1), images, there):
            runs.append(made(settled, images, test_set, out, Experiment(settled, "train", options)))
    if share is not None:
        return Sliced(share, "trainings", [str(run.path) for run in runs], seeds)
    if seeds == 1:
        return runs[0]
    from datablame.analyses.memory import MemoryTest

    return MemoryTest.of([run.with_model for run in runs], 5)


def shared_features(recipe: Recipe, data: Dataset, test: Dataset | None, part: Part) -> Sliced:
    """A part of the features that the training would begin with.

    Raises InputError for a training that begins with none.
    """
    from datablame.inference.features import is_frozen, share
    from datablame.network.classifier import build, view_of
    from datablame.training import auto

    settled = auto.settle(recipe, data, test is not None)
    view = view_of(settled.model)
    sets = [each.looked_at(view) for each in (data, test) if each is not None]
    model = build(settled, sets[0])
    if not is_frozen(model) or settled.augment != "none" or not data.drawn:
        raise InputError(
            f"--part shares several --seeds, or the features of an encoder that does not train: "
            f"{settled.model} with augment {settled.augment} has nothing to share; say --seeds 40, "
            "or --model frozen:NAME"
        )
    return share(model, sets, part)


def chosen(data: Dataset, subset: Subset, seed: int, source: str) -> Dataset:
    """The part of a training set that a subset names.

    Raises InputError for temperatures of another set.
    """
    from datablame.base import progress
    from datablame.dynamics import temperature_curves

    if subset.origin is not None:
        origin = opened(subset.origin)
        if origin.data.fingerprint != data.fingerprint:
            raise InputError(
                f"{origin.path} was trained on another set than {source} as it is read here; "
                "give the same source, noise, amount and seed"
            )
        kept = data.take(temperature_curves.coolest(origin, subset))
        if (every := data.wrong) is not None and (rest := kept.wrong) is not None:
            right = [1 - float(wrong.float().mean()) for wrong in (rest, every)]
            progress.say(
                f"of the labels that are kept {right[0]:.1%} are right, of all {right[1]:.1%}"
            )
        data = kept
    return data.take(subset.rows(data, seed)) if subset.examples else data


def made(
    recipe: Recipe, data: Dataset, test: Dataset | None, out: Path | str, known: Experiment
) -> Run:
    """The run of a settled recipe on a set, trained with its held-out models if it is not yet;
    its recipe.yaml says how it was asked for.
    """
    from datablame.base import files, progress
    from datablame.inference import predictions
    from datablame.run import Run
    from datablame.training.cross_validation import cross_fit, cross_validate
    from datablame.training.fit import fit

    with held(Run.create(data, recipe, test, out)) as run:
        if not run.finished:
            files.write_text(run.path / "recipe.yaml", known.to_yaml())
            progress.say(f"{run.recipe.model}, {run.recipe.epochs} epochs on {run.data!r}")
        if run.cross_fitted:
            cross_fit(run)
        else:
            fit(run)
            cross_validate(run)
            predictions.accuracy(run)
    return run


def import_dynamics(
    recording: Path | str,
    *,
    data: Source | None = None,
    reading: Reading = Reading(),
    out: Path | str = Path("runs"),
) -> Run:
    """Make a run of training dynamics that were recorded elsewhere: signals, judges and reports
    work on it.

    Returns the run. Raises InputError for files that are no recording, or of another set.

    Parameters
    ----------
    recording
        training_dynamics.npz, or the folder that holds it, perhaps with metadata.pth next to it.
    data
        The set that it was recorded on, as for `load`, whose images the report shows; without it
        there are labels alone.
    out
        Folder under which the run's own folder is made.
    """
    from datablame.exchange.dynamics import imported

    every = Reading.__dataclass_fields__
    alone = "without --data there are labels alone" if data is None else ""
    unasked(reading, list(every) if alone else OF_TESTS, alone or "a recording has no test images")
    images = None
    if data is not None and (images := read(data, "train", reading)) is None:
        raise InputError(f"{data} has no training split")
    return imported(Path(recording), images, out)
