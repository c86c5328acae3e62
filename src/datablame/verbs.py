"""The library on a page: each verb finds a method, calls it, and keeps what it returns.

The command line has the same words; options are read off these signatures and docstrings. What is heavy is imported
where it is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError
from datablame.recipe import Recipe

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.evidence.tuning import Estimate
    from datablame.proof.comparison import Comparison
    from datablame.run import Run
    from datablame.scores import Scores
    from datablame.verdict import Verdict

    Source = str | Path | Dataset
    RunLike = str | Path | Run
else:  # the command line passes text, and must not wait for torch to learn the types
    Source = RunLike = str
    Dataset = Comparison = Estimate = Run = Scores = Verdict = Any

DEFAULT = ("aum", "aum,since=0.5", "knn", "confident")
"""The default blend, chosen by measurement: benchmarks/RESULTS.md, "The default blend"."""


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Which part of a set is read, and how."""

    test: Any = None
    """Test split: a source of its own, where the training source has none."""
    image: str | None = None
    """Column of the images (Parquet, hub)."""
    label: str | None = None
    """Column of the given labels (Parquet, hub)."""
    truth: str | None = None
    """Column of the right labels where they are known, for measuring only."""
    limit: int | None = None
    """Read only so many training rows."""
    size: int | None = None
    """Side in pixels to which images are brought."""
    holdout: float = 0.2
    """Share held out for testing where there is no test split, every class alike."""


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
        Side in pixels to which images are brought; small images of one size keep it.
    """
    from datablame.dataset import Dataset
    from datablame.ground import plug
    from datablame.sources.preset import presets

    if isinstance(source, Dataset):
        return source
    where, path = str(source), Path(source)
    columns = {"image": image, "label": label, "truth": truth}
    common = {"limit": limit, "size": size}
    if path.is_dir() and not any(path.rglob("*.parquet")):
        room, options = "folder", common
    elif where == "digits":
        room, options = "digits", {"limit": limit}
    elif where in presets():
        room, options = "preset", {"label": label, "truth": truth} | common
    elif path.exists() or (where.count("/") == 1 and not path.suffix):
        room, options = "hub", columns | common
    else:
        near = plug.unknown("source", where, ["digits", *presets()])
        raise InputError(f"there is no path {where}, and {near}")
    unused = [name for name, value in columns.items() if value is not None and name not in options]
    if unused:
        raise InputError(
            f"{where} is read by '{room}', which has no columns to choose: leave out --{' --'.join(unused)}"
        )
    return plug.find("sources", room)(where, split, **options)


def splits(
    source: Source, reading: Reading, noise: str | None = None, amount: float = 0.2, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """(training set, test set) of a source: its own test split, the one named, or a stratified part held out.

    Noise is planted in the training set alone.
    """
    columns = {"image": reading.image, "label": reading.label, "truth": reading.truth, "size": reading.size}
    data = load(source, split="train", **columns, limit=reading.limit)
    if data is None:
        raise InputError(f"{source} has no training split")
    if reading.test is not None:
        test = load(reading.test, **columns)
        test = test and dataclasses.replace(test, split="test")
    else:
        test = load(source, split="test", **columns) if isinstance(source, (str, Path)) else None
    if test is None:
        data, test = data.holdout(reading.holdout)
    if test.classes != data.classes:
        raise InputError(
            f"the test set has other classes ({', '.join(test.classes[:5])} ...) than the training set ({', '.join(data.classes[:5])} ...)"
        )
    if test.shape != data.shape:
        raise InputError(
            f"test images are {test.shape}, training images {data.shape}; bring both to one size with --size"
        )
    return (corrupt(data, noise=noise, amount=amount, seed=seed) if noise else data), test


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
    from datablame.ground import plug

    loaded = load(
        data, image=reading.image, label=reading.label, truth=reading.truth, limit=reading.limit, size=reading.size
    )
    if loaded is None:
        raise InputError(f"{data} has no training split")
    noisy = plug.find("noises", noise)(loaded, amount, seed)
    if out is not None:
        from datablame.exporting import to_parquet

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
    """
    from datablame.evidence import passes, training, tuning
    from datablame.ground import clock, store
    from datablame.run import Run

    data, test = (data, test) if test is not None else splits(data, reading, noise, amount, recipe.seed)  # type: ignore[assignment]  # a Dataset with its test
    run = Run.create(data, tuning.settle(recipe, data), test, out)  # type: ignore[arg-type]  # a Dataset by now
    with store.alone(run.path):
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
    from datablame.scores import blend

    run = opened(run)
    each = [scored(run, signal) for signal in signals or defaults(run)]
    if len(each) == 1:
        return each[0]
    whole = blend(each, name)
    from datablame.ground import store

    store.write_array(run.path / "scores" / f"{name}.npy", whole.values.numpy())
    return whole


def defaults(run: Run) -> list[str]:
    """The default blend, without what this run cannot give."""
    from datablame.evidence import passes

    without = {"confident": passes.has_heldout(run), "knn": passes.has_features(run)}
    return [name for name in DEFAULT if without.get(name.partition(",")[0], True)]


def scored(run: Run, signal: str) -> Scores:
    """One signal's scores, computed once."""
    import torch

    from datablame.ground import clock, plug
    from datablame.scores import Scores

    def make() -> Any:
        with clock.stage(f"signal {signal}"):
            return Scores(signal, function(run).float()).values.numpy()

    function = plug.find("signals", signal)
    return Scores(signal, torch.from_numpy(run.keep(f"scores/{signal}", make).copy()))


def opened(run: RunLike) -> Run:
    from datablame.run import Run

    return run if isinstance(run, Run) else Run(run)


def judge(
    run: RunLike,
    scores: Annotated[Scores | None, Parameter(parse=False)] = None,
    *,
    judge: str = "mixture",
    by: str = "blend",
) -> Verdict:
    """Decide what should be done with every example, and write verdict.csv and examples.parquet.

    Parameters
    ----------
    run
        Folder of a run that has been scored.
    judge
        mixture, confident or top,share=0.05.
    by
        The scores to judge by: a file name in the run's scores folder, without .npy.
    """
    from datablame import exporting
    from datablame.ground import clock, plug

    run = opened(run)
    scores = scores or kept(run, by)
    with clock.stage(f"judge {judge}"):
        verdict = plug.find("judges", judge)(run, scores)
        verdict.save(run.path / "verdict.csv", run.data)
        exporting.examples(run, verdict)
    return verdict


def kept(run: Run, name: str) -> Scores:
    """Scores that are in the run's folder. Raises InputError where they are not, with those that are."""
    import numpy as np
    import torch

    from datablame.ground.errors import unknown
    from datablame.scores import Scores

    there = sorted(path.stem for path in (run.path / "scores").glob("*.npy"))
    if name not in there:
        raise unknown(f"scores in {run.path} (make them with: datablame score {run.path})", name, there)
    return Scores(name, torch.from_numpy(np.load(run.path / "scores" / f"{name}.npy")))


def measure(run: RunLike) -> dict[str, dict[str, float]]:
    """Compare every score of a run with the truth: ROC-AUC, average precision, false negatives, share found.

    Parameters
    ----------
    run
        Folder of a run whose truth is known and that has been scored.
    """
    from datablame.ground import store
    from datablame.proof.metrics import metrics, wrong_labels

    run = opened(run)
    wrong = wrong_labels(run.data.labels, run.data.truth)
    there = sorted(path.stem for path in (run.path / "scores").glob("*.npy"))
    if not there:
        raise InputError(f"{run.path} has no scores yet: datablame score {run.path}")
    table = {name: metrics(kept(run, name).values, wrong) for name in there}
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
    import torch

    from datablame.evidence import training
    from datablame.ground import clock, draw, store
    from datablame.proof.comparison import comparison
    from datablame.run import Run
    from datablame.verdict import DROP, FIX, Verdict

    run = opened(run)
    verdict = Verdict.read(run.path / "verdict.csv", run.data)
    kinds: dict[str, list[Run]] = {"before": [], "after": [], "control": []}
    for seed in range(run.recipe.seed, run.recipe.seed + seeds):
        struck = torch.zeros(len(run.data), dtype=torch.bool)
        struck[draw.permutation(len(run.data), "control", seed)[: verdict.count(DROP, FIX)]] = True
        sets = {
            "before": run.data,
            "after": verdict.apply(run.data),
            "control": run.data.take((~struck).nonzero()[:, 0]),
        }
        for kind, data in sets.items():
            if kind == "before" and seed == run.recipe.seed:
                kinds[kind].append(run)
                continue
            other = Run.create(data, run.recipe.but(seed=seed, folds=0), run.test, run.path.parent)
            if not other.finished:
                clock.say(f"retraining, seed {seed}: {kind} ({len(data):,} images)")
            training.fit(other)
            kinds[kind].append(other)
    with clock.stage("compare"):
        result = comparison(kinds["before"], kinds["after"], kinds["control"])
    paths = {kind: [str(each.path) for each in runs] for kind, runs in kinds.items()}
    store.write_json(run.path / "comparison.json", result.to_json() | {"sentence": result.sentence, "runs": paths})
    return result


def report(run: RunLike) -> Path:
    """Write report.html: summary, suspects, scores, curves, before and after, seconds by stage.

    Parameters
    ----------
    run
        Folder of a run.
    """
    from datablame.faces import report as page
    from datablame.ground import clock

    run = opened(run)
    with clock.stage("report"):
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
    from datablame.ground import plug, store

    if seeds < 1:
        raise InputError(f"--seeds must be at least 1; {seeds} was asked (--no-retrain leaves the comparison out)")
    for room, names in (("signals", signals), ("judges", [judge])):
        for name in names:
            plug.find(room, name)
    data, test = splits(source, reading, noise, amount, recipe.seed)
    again = seeds if retrain else 0
    recipe = tuning.within(minutes, recipe, data, again, Path(out)) if minutes else tuning.settle(recipe, data)
    if dry_run:
        return tuning.estimate(recipe, data, again)
    run = train(data, recipe=recipe, out=out, test=test)
    with store.alone(run.path):
        verdict = globals()["judge"](run, score(run, *signals), judge=judge)
        if run.data.truth is not None and (run.data.truth != run.data.labels).any():
            measure(run)
        if retrain:
            prove(run, seeds=seeds)
        finish(run, verdict)
    return run


def finish(run: Run, verdict: Verdict) -> None:
    """Write the report, the profile and the card."""
    from datablame.faces import card
    from datablame.ground import clock, store

    report(run)
    store.write_text(run.path / "profile.txt", str(clock.profile))
    store.write_text(run.path / "card.txt", card.card(run, verdict))
