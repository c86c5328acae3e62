"""Verbs of heads that look at a memory: what they recall, how far that explains them, and what they shall answer by."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.ground.errors import InputError, at_least
from datablame.reading import AMOUNT, Reading
from datablame.recipe import Recipe
from datablame.subset import Subset
from datablame.verbs.holding import RunLike, Source, held, opened
from datablame.verbs.making import train

if TYPE_CHECKING:
    from datablame.run import Run
else:
    Run = Any


def recall(
    run: RunLike,
    *images: Path,
    queries: int = 8,
    pick: str = "first",
    memory: str = "kept",
    heatmaps: str = "white",
) -> dict[str, Any]:
    """Show the training images that a model with a memory answers by, examples and counterfactuals, and where in them it looks.

    Parameters
    ----------
    run
        Folder of a run that was trained with --head memory_wrap or memory.
    images
        Pictures to answer; without any, test images.
    queries
        How many test images.
    pick
        Which test images: `first`, or `mistakes`, those that the model gets wrong, the surest first.
    memory
        kept, the images that the model keeps; random, others by the seed; all, the whole training set.
    heatmaps
        What integrated gradients start from: white, black or blurred; none draws no heatmaps.
    """
    from datablame import asking, recalling
    from datablame.faces import recalled

    if heatmaps not in ("none", *recalling.BASELINES):
        raise InputError(f"--heatmaps takes {', '.join(recalling.BASELINES)} or none; '{heatmaps}' was asked")
    with held(run) as run:
        asked = asking.pictures(run, images) if images else asking.of_test(run, queries, pick)
        found = recalling.recalled(run, asked, memory)
        error = recalled.draw(found, None if heatmaps == "none" else heatmaps)
        told = [found.first(query, True) for query in range(len(asked))]
    facts = {
        "picture": str(recalled.picture_of(run, memory)),
        "queries": len(asked),
        "drawn": min(recalled.SHOWN, len(asked)),
        "answers": [run.data.classes[k] for k in found.answers[:16]],
        "best_examples": ["" if k is None else run.data.name(int(found.rows[q][k])) for q, k in enumerate(told[:16])],
        "images_looked_at": round(statistics.fmean(map(len, found.rows)), 1),
    }
    if error is None:
        return facts
    return facts | {
        "heatmaps": str(recalled.picture_of(run, memory, "-heatmaps")),
        "largest_error": round(error, 5),
    }


def remember(run: RunLike, *names: str, choose: str | None = None, size: int = 0) -> Run:
    """Make a run of the same weights that answers by another memory, so that a deployed model explains itself from known images.

    Parameters
    ----------
    run
        Folder of a run that was trained with --head memory_wrap or memory.
    names
        Names of training images (as in examples.parquet and verdict.csv), chosen by hand.
    choose
        Without names: prototypes (whose means are the classes' means; unless told), used (those that are looked at most), balanced or random.
    size
        How many images; 0: as many as in training.
    """
    from datablame import recalling

    at_least(0, size=size)
    with held(run) as run:
        return recalling.remembered(run, choose, size, names)


def evaluate(*runs: RunLike, memories: int = 5) -> dict[str, Any]:
    """Say how often models are right and, with a memory, how often their explanations are: of each run, and mean and spread over all.

    Parameters
    ----------
    runs
        Folders of runs, or folders that hold several.
    memories
        How many times the test images are answered, each time by other random memories.
    """
    from datablame import recalling

    if not runs:
        raise InputError("name one run or more")
    found: dict[str, dict[str, float]] = {}
    every = {str(run.path): run for where in runs for run in map(opened, several(where))}
    for path, run in every.items():
        with held(run):
            found[path] = recalling.evaluated(run, memories)
    groups = recalling.alike(list(every.values()))
    told = {kind: summary([found[str(run.path)] for run in each]) for kind, each in groups.items()}
    return {
        "runs": found,
        "means": told,
        "sentence": "\n".join(line(kind, len(groups[kind]), told[kind]) for kind in told),
    }


def several(run: RunLike) -> Sequence[RunLike]:
    """The run, or all finished runs with test images that lie in the folder."""
    from datablame.ground import clock

    if not isinstance(run, (str, Path)) or (Path(run) / "run.json").exists():
        return [run]
    inside = [opened(path.parent) for path in sorted(Path(run).glob("*/run.json"))]
    fit = [each for each in inside if each.finished and each.test is not None]
    for each in inside:
        if each not in fit:
            clock.say(f"{each.path} is left out: it {'has no test images' if each.finished else 'is not finished'}")
    return fit or [run]


def summary(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each figure over runs, and of several the standard deviation of the accuracy over seeds."""
    columns = {name: [each[name] for each in found if name in each] for name in found[0]}
    mean = {name: round(statistics.fmean(values), 5) for name, values in columns.items()}
    several = columns["accuracy"] if len(found) > 1 else []
    return mean | ({"over_seeds": round(statistics.stdev(several), 5)} if several else {})


def line(kind: str, count: int, mean: dict[str, float]) -> str:
    spread = f" ± {100 * mean['over_seeds']:.2f}" if "over_seeds" in mean else ""
    return f"{kind}, {count} run{'s' * (count > 1)}: {100 * mean['accuracy']:.2f}{spread} %"


def repeat(
    data: Source,
    *,
    runs: int = 15,
    memories: int = 5,
    recipe: Annotated[Recipe, Parameter(name="*")] = Recipe(),
    reading: Reading = Reading(),
    noise: str | None = None,
    amount: float = AMOUNT,
    subset: Annotated[Subset, Parameter(name="*")] = Subset(),
    out: Path = Path("runs"),
) -> dict[str, Any]:
    """Train with several seeds, each with its own draw of --examples, and say mean and standard deviation of the accuracy.

    What is trained already is not trained again.

    Parameters
    ----------
    data
        A source, as for `load`.
    runs
        How many seeds, from the recipe's on.
    memories
        How many random memories a model with a memory is evaluated with.
    noise
        Plant label noise for a trial: uniform, pair, instance, asym_cifar10.
    amount
        Share of wrong labels that --noise plants; the seed says which.
    out
        Folder under which the runs' own folders are made.
    """
    at_least(1, runs=runs, memories=memories)
    made = [
        train(
            data,
            recipe=recipe.but(seed=recipe.seed + turn),
            reading=reading,
            noise=noise,
            amount=amount,
            subset=subset,
            out=out,
        )
        for turn in range(runs)
    ]
    return evaluate(*made, memories=memories)
