"""The library on a page: each verb finds a method, calls it, and keeps what it returns.

The command line has the same words; options are read off these signatures and docstrings. What is heavy is imported
where it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError
from datablame.reading import Reading, read, splits
from datablame.recipe import Recipe

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.evidence.tuning import Estimate
    from datablame.pairs import Links
    from datablame.proof.comparison import Comparison
    from datablame.run import Run
    from datablame.scores import Scores
    from datablame.verdict import Verdict

    Source = str | Path | Dataset
    RunLike = str | Path | Run
else:  # the command line passes text, and must not wait for torch to learn the types
    Source = RunLike = str
    Dataset = Comparison = Estimate = Links = Run = Scores = Verdict = Any

HOLDING: list[Path] = []
"""Runs that verbs are at work on: one verb calls another."""


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
        uniform, pair, asym_cifar10; with exact=no each label is struck by chance instead of an exact number.
    amount
        Share of wrong labels.
    seed
        Which labels are struck, and by what.
    out
        Parquet file to write the noisy set to, with the columns image, label and truth.
    """
    from datablame.exporting import to_parquet
    from datablame.ground import plug

    method = plug.find("noises", noise)
    loaded = read(data, "train", reading)
    if loaded is None:
        raise InputError(f"{data} has no training split")
    noisy = method(loaded, amount, seed)
    if out is not None:
        to_parquet(noisy, Path(out))
    return noisy


def train(
    data: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    noise: str | None = None,
    amount: float = 0.2,
    out: Path = Path("runs"),
    test: Annotated[Dataset | None, Parameter(parse=False)] = None,
) -> Run:
    """Train a model while recording what it says of every example; resumes if it was interrupted.

    Parameters
    ----------
    data
        A source, as for `load`.
    noise
        Plant label noise for a trial: uniform, pair, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    out
        Folder under which the run's own folder is made.
    test
        The test set, where `data` is a Dataset; without it a part of `data` is held out.
    """
    from datablame.evidence import passes, training, tuning
    from datablame.ground import clock
    from datablame.run import Run

    if test is not None:
        reading = dataclasses.replace(reading, test=test)
    train_set, test_set = splits(data, reading, noise, amount, recipe.seed)
    with held(Run.create(train_set, tuning.settle(recipe, train_set), test_set, out)) as run:
        if not run.finished:
            clock.say(f"{run.recipe.model}, {run.recipe.epochs} epochs on {run.data!r}")
        training.fit(run)
        passes.accuracy(run)
    return run


def score(run: RunLike, *signals: str, name: str = "blend") -> Scores:
    """Score every training example by one or more signals, and blend them.

    Parameters
    ----------
    run
        Folder of a run.
    signals
        Names from `datablame methods`, with options: aum,since=0.5 knn,k=10. None means those of the default blend.
    name
        Name of the blend, where there are several signals.
    """
    from datablame import scoring

    with held(run) as run:
        return scoring.blended(run, signals, name)


def explain(
    run: RunLike,
    *images: Path,
    link: str = "influence",
    label: str | None = None,
    queries: int = 16,
    pick: str = "first",
    keep: int | None = None,
    exact: bool = False,
    rerank: int = 0,
    asked: Annotated[Dataset | None, Parameter(parse=False)] = None,
) -> Links:
    """Say which training images pushed the model towards its answer, and which against.

    Parameters
    ----------
    run
        Folder of a run.
    images
        Pictures to explain; without any, test images. Where `datablame index` was run, a picture is answered at once.
    link
        influence, tracin or similarity, with options: influence,kind=kfac,damping=1e-3.
    label
        Class of the pictures whose causes are asked; without it, the one that the model answers.
    queries
        How many test images.
    pick
        Which test images: `first`, or `mistakes`, those that the model gets wrong, the surest first.
    keep
        Keep only so many highest and lowest scores of each query; without it all.
    exact
        Meet every training image, even where there is an index.
    rerank
        How many of the index's highest, and as many lowest, are scored again exactly; 0: a hundredth of the set, at least 64.
    asked
        The queries as a Dataset.
    """
    from datablame import asking, linking
    from datablame.faces import explained

    with held(run) as run:
        if asked is None:
            asked = asking.pictures(run, images, label) if images else asking.of_test(run, queries, pick)
        index, of = linking.index_of(run, link) if images and not exact and link.startswith("influence") else (None, "")
        if index:
            found = linking.searched(run, asked, index, of, keep or 10, rerank)
        else:
            found = linking.linked(run, asked, link, keep)
        explained.sheet(found)
    return found


def index(run: RunLike, *, link: str = "influence", block: int = 64, rerank: int = 0) -> dict[str, Any]:
    """Make the index from which `explain` answers for a new picture at once, and say how closely it agrees with the full scores.

    Parameters
    ----------
    run
        Folder of a run.
    link
        The influence that it should answer for, with its options.
    block
        Directions of each layer's inputs and outputs that are kept: more agree better and take more room.
    rerank
        How many of the index's highest, and as many lowest, are scored again exactly; 0: a hundredth of the set, at least 64.
    """
    from datablame import linking

    with held(run) as run:
        made, of = linking.index_of(run, link, block)
        assert made is not None
        facts = {"examples": len(made.codes), "bytes_an_example": made.codes.shape[1], "index": str(made.folder)}
        return facts | made.agreement(of, rerank)


def agree(run: RunLike, *names: str, queries: int = 16, rows: int = 1000) -> dict[str, dict[str, float]]:
    """Correlate signals, or links, with the first named: another kind of curvature, a lower precision, a lower rank.

    Parameters
    ----------
    run
        Folder of a run.
    names
        Two or more signals (self_influence self_influence,activations=bf16), or two or more links.
    queries
        Test images on which links are compared.
    rows
        Training images on which links are compared.
    """
    from datablame import agreeing

    with held(run) as run:
        return agreeing.agreement(run, names, queries, rows)


def judge(
    run: RunLike,
    scores: Annotated[Scores | None, Parameter(parse=False)] = None,
    *,
    judge: str = "mixture",
    by: str = "blend",
) -> Verdict:
    """Decide what should be done with every example, and write verdict.csv and examples.parquet.

    A verdict.csv that a person has edited is not overwritten: move it away to judge anew.

    Parameters
    ----------
    run
        Folder of a run that has been scored.
    scores
        The scores to judge by; without them those that `by` names.
    judge
        mixture, confident or top,share=0.05.
    by
        The scores to judge by: a file name in the run's scores folder, without .npy.
    """
    from datablame import exporting, scoring
    from datablame.ground import clock, plug, store
    from datablame.verdict import Verdict

    method = plug.find("judges", judge)
    with held(run) as run, clock.stage(f"judge {judge}"):
        path = run.path / "verdict.csv"
        if Verdict.edited(path):
            raise InputError(f"{path} was edited by hand; move it away to judge anew")
        verdict = method(run, scores or scoring.kept(run, by))
        verdict.save(path, run.data)
        exporting.examples(run, verdict)
        store.remove(run.path / "card.txt")
    return verdict


def measure(run: RunLike) -> dict[str, dict[str, float]]:
    """Compare every score of a run with the truth: ROC-AUC, average precision, false negatives, share found.

    Parameters
    ----------
    run
        Folder of a run whose truth is known and that has been scored.
    """
    from datablame import scoring
    from datablame.ground import store
    from datablame.proof.metrics import against_truth

    with held(run) as run:
        table = {name: against_truth(scoring.kept(run, name).values, run.data) for name in scoring.names(run)}
        store.write_json(run.path / "measures.json", table)
    return table


def compare(before: RunLike, after: RunLike) -> Comparison:
    """Compare the test accuracy of two runs, paired on the same test images.

    Parameters
    ----------
    before
        Folder of the first run.
    after
        Folder of the second run.
    """
    from datablame.proof.comparison import comparison

    return comparison([opened(before)], [opened(after)])


def prove(run: RunLike, *, seeds: int = 1) -> Comparison:
    """Retrain on the cleaned set, and on as many examples removed at random, and compare on the test set.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    seeds
        How many seeds to train each with.
    """
    from datablame.proof.retraining import retraining
    from datablame.verdict import Verdict

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; {seeds} was asked")
    with held(run) as run:
        return retraining(run, Verdict.read(run.path / "verdict.csv", run.data), seeds)


def report(run: RunLike) -> Path:
    """Write report.html: summary, suspects, scores, curves, before and after, seconds by stage.

    Parameters
    ----------
    run
        Folder of a run.
    """
    from datablame.faces import report as page
    from datablame.ground import clock

    with held(run) as run, clock.stage("report"):
        return page.write(run)


def export(run: RunLike, *, to: Path = Path("examples.csv")) -> Path:
    """Write the table of all examples, one row each, as CSV or Parquet by the ending of the file's name.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    to
        File to write: examples.csv is safe to open in a spreadsheet; examples.parquet keeps the types.
    """
    from datablame import exporting

    return exporting.export(opened(run), Path(to))


def audit(
    source: Source,
    *,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    signals: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    judge: str = "mixture",
    seeds: int = 1,
    minutes: float | None = None,
    retrain: bool = True,
    noise: str | None = None,
    amount: float = 0.2,
    out: Path = Path("runs"),
    dry_run: bool = False,
) -> Run | Estimate:
    """Find the wrong labels of an image set: train, score, judge, clean, retrain, compare, report.

    Parameters
    ----------
    source
        `digits`, a folder of class folders, a Parquet file, a preset (`datablame methods`), or a name on the Hugging Face hub.
    signals
        What to score by; names from `datablame methods`. Without it, the blend that was chosen by measurement.
    judge
        mixture, confident or top,share=0.05.
    seeds
        How many times to retrain before, after and with a random control.
    minutes
        Pick epochs and width of the net so that the whole audit takes about this long.
    retrain
        Retrain on the cleaned set and compare.
    noise
        Plant label noise for a trial: uniform, pair, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; --seed says which.
    out
        Folder under which the run's own folder is made.
    dry_run
        Only say what it would take: minutes, memory, disk.
    """
    from datablame.evidence import tuning
    from datablame.faces import card
    from datablame.ground import plug

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; {seeds} was asked (--no-retrain leaves the comparison out)")
    for room, names in (("signals", signals), ("judges", [judge])):
        for name in names:
            plug.find(room, name)
    data, test = splits(source, reading, noise, amount, recipe.seed)
    again = seeds if retrain else 0
    recipe = tuning.within(minutes, recipe, data, test, again, Path(out)) if minutes else tuning.settle(recipe, data)
    if dry_run:
        return tuning.estimate(recipe, data, test, again)
    with held(train(data, recipe=recipe, out=out, test=test)) as run:
        score(run, *signals)
        verdict = judged(run, judge, signals[0] if len(signals) == 1 else "blend")
        if run.data.wrong is not None and run.data.wrong.any():
            measure(run)
        if retrain:
            prove(run, seeds=seeds)
        report(run)
        card.write(run, verdict)
    return run


def judged(run: Run, method: str, by: str) -> Verdict:
    """Judge a run, or keep the verdict that a person has edited."""
    from datablame import exporting
    from datablame.ground import clock
    from datablame.verdict import Verdict

    path = run.path / "verdict.csv"
    if not Verdict.edited(path):
        return judge(run, judge=method, by=by)
    clock.say(f"keeping {path}, which was edited by hand")
    verdict = Verdict.read(path, run.data)
    exporting.examples(run, verdict)
    return verdict


def opened(run: RunLike) -> Run:
    from datablame.run import Run

    return run if isinstance(run, Run) else Run(run)


@contextlib.contextmanager
def held(run: RunLike) -> Iterator[Run]:
    """A run, held against other programs that would write to its folder; at the end profile.txt says where the time went."""
    from datablame.ground import clock, store

    run = opened(run)
    with store.alone(run.path):
        HOLDING.append(run.path)
        try:
            yield run
        finally:
            HOLDING.pop()
        if not HOLDING and clock.profile.seconds:
            store.write_text(run.path / "profile.txt", str(clock.profile))
