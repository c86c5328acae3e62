"""Verbs that make sets, runs and detectors: read a set, plant noise, train, adopt, teach, clean."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError
from datablame.lesson import PAPER, Lesson, Sight
from datablame.reading import AMOUNT, Reading, planted, read, splits
from datablame.recipe import Recipe
from datablame.subset import Subset
from datablame.verbs.holding import RunLike, Source, held, opened

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.run import Run
else:
    Dataset = Run = Any


def load(
    source: Source,
    *,
    split: str = "train",
    image: str | None = None,
    label: str | None = None,
    truth: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """Read a labelled image set, decode it once, and say what it holds.

    Parameters
    ----------
    source
        `digits`, a folder of class folders, a Parquet file, a preset (`datablame methods`), or a name on the Hugging Face hub.
    split
        train or test; None is returned where there is no such split.
    image
        Column of the images (Parquet, hub).
    label
        Column of the given labels (Parquet, hub).
    truth
        Column of the right labels where they are known, for measuring only.
    limit
        Read only so many rows.
    size
        Side in pixels to which images are brought; small images of one size keep theirs.
    """
    return read(source, split, Reading(None, image, label, truth, limit, size))


def corrupt(
    data: Source,
    *,
    noise: str = "uniform",
    amount: float = 0.2,
    seed: int = 0,
    out: Path | None = None,
    reading: Reading = Reading(),
) -> Dataset:
    """Plant label noise of a known kind, keeping the truth beside.

    Parameters
    ----------
    data
        A source, as for `load`.
    noise
        uniform, pair, instance, asym_cifar10; with exact=no each label is struck by chance instead of an exact number.
    amount
        Share of wrong labels.
    seed
        Which labels are struck, and by what.
    out
        Parquet file to write the noisy set to, with the columns image, label and truth; without an ending, a folder of class folders.
    """
    from datablame.exporting import dump
    from datablame.ground import plug

    plug.find("noises", noise)  # a wrong name is told before the set is read
    loaded = read(data, "train", reading)
    if loaded is None:
        raise InputError(f"{data} has no training split")
    noisy = planted(loaded, noise, amount, seed)
    if out is not None:
        dump(noisy, Path(out))
    return noisy


def train(
    data: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    noise: str | None = None,
    amount: float = AMOUNT,
    subset: Annotated[Subset, Parameter(name="*")] = Subset(),
    out: Path = Path("runs"),
    test: Annotated[Dataset | None, Parameter(parse=False)] = None,
) -> Run:
    """Train a model while recording what it says of every example; resumes if it was interrupted.

    Parameters
    ----------
    data
        A source, as for `load`.
    noise
        Plant label noise for a trial: uniform, pair, instance, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    out
        Folder under which the run's own folder is made.
    test
        The test set, where `data` is a Dataset; without it a part of `data` is held out.
    """
    from datablame.evidence import curves, passes, training, tuning
    from datablame.ground import clock
    from datablame.run import Run

    if test is not None:
        reading = dataclasses.replace(reading, test=test)
    train_set, test_set = splits(data, reading, noise, amount, recipe.seed)
    if subset.origin is not None:
        origin = opened(subset.origin)
        if origin.data.fingerprint != train_set.fingerprint:
            raise InputError(
                f"{origin.path} was trained on another set than {data} as it is read here; give the same source, noise, amount and seed"
            )
        train_set = train_set.take(curves.coolest(origin, subset))
    if subset.examples:
        train_set = train_set.take(subset.rows(train_set, recipe.seed))
    with held(Run.create(train_set, tuning.settle(recipe, train_set), test_set, out)) as run:
        if not run.finished:
            clock.say(f"{run.recipe.model}, {run.recipe.epochs} epochs on {run.data!r}")
        training.fit(run)
        passes.accuracy(run)
    return run


def adopt(
    recording: Path, *, data: Source | None = None, reading: Reading = Reading(), out: Path = Path("runs")
) -> Run:
    """Make a run of training dynamics that were recorded elsewhere: signals, judges and reports work on it.

    Parameters
    ----------
    recording
        training_dynamics.npz, or the folder that holds it, perhaps with metadata.pth beside it.
    data
        The set that it was recorded on, as for `load`, whose images the report shows; without it there are labels alone.
    out
        Folder under which the run's own folder is made.
    """
    from datablame.recording import adopted

    images = None
    if data is not None and (images := read(data, "train", reading)) is None:
        raise InputError(f"{data} has no training split")
    return adopted(Path(recording), images, out)


def teach(
    *runs: RunLike,
    out: Path = Path("detector.safetensors"),
    start: str | None = None,
    paper: bool = False,
    sight: Annotated[Sight, Parameter(name="*")] = Sight(),
    lesson: Annotated[Lesson, Parameter(name="*")] = Lesson(),
) -> dict[str, Any]:
    """Teach a detector what a wrong label looks like, on runs whose truth is known; `lstm,detector=FILE` then uses it.

    Parameters
    ----------
    runs
        Folders of runs whose truth is known: with planted noise, or a set that was checked.
    out
        File to write the detector to.
    start
        Go on from this detector: few or many, which come with the package, a file, or the paper's .pth.tar.
    paper
        Teach as Jia et al. (2023) do: the probability of the given label, AdamW at rate 0.1, batches of 64, the best accuracy kept.
    """
    from datablame.evidence.detector import Detector
    from datablame.ground import draw
    from datablame.proof import teaching

    if paper and (sight, lesson) != (Sight(), Lesson()):
        raise InputError("--paper sets all other options of teaching; leave them out")
    if start is not None and (paper or sight != Sight()):
        options = ", ".join(f"--{field.name}" for field in dataclasses.fields(Sight))
        raise InputError(f"a detector that is taught further keeps what it sees; leave out --paper, {options}")
    sight, lesson = PAPER if paper else (sight, lesson)
    with draw.seeded("detector", lesson.seed):
        detector = Detector.load(start) if start is not None else Detector(sight)
    detector = teaching.teach([opened(run) for run in runs], detector, lesson)
    detector.save(Path(out))
    return {
        "detector": str(out),
        **detector.about["held_out"],
        "taught_on": len(runs),
        "epochs": detector.about["epochs"],
    }


def apply(run: RunLike, *, out: Path) -> Dataset:
    """Write the cleaned set: what the verdict drops left out, what it fixes relabelled; any trainer takes it.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    out
        Parquet file to write the set to, with the columns image, label and, where it is known, truth; without an ending, a folder of class
        folders.
    """
    from datablame.exporting import dump
    from datablame.verdict import Verdict

    found = opened(run)
    cleaned = Verdict.read(found.path / "verdict.csv", found.data).apply(found.data)
    dump(cleaned, Path(out))
    return cleaned
