"""Memory Wrap: show what answers rest on, test how faithful that is, replace the memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datablame.base.errors import InputError, at_least
from datablame.verbs.opening import RunLike, held_model, several

if TYPE_CHECKING:
    from datablame.analyses.memory import MemoryTest, MemoryView
    from datablame.dataset import Dataset
    from datablame.run import Run

    Queries = int | Dataset
else:
    MemoryTest = MemoryView = Run = Any
    Queries = int


def show(
    run: RunLike,
    *images: Path | str,
    queries: Queries = 8,
    pick: str = "first",
    memory: str = "kept",
    heatmaps: str = "white",
    each: int = 5,
) -> MemoryView:
    """Show the training images that answers rest on, examples and counterfactuals, and where in
    them.

    Returns the view. A picture of the first 16 queries is drawn, and a PDF of all of them. Raises
    InputError for a run whose head has no memory.

    Parameters
    ----------
    run
        Folder of a run that was trained with --head memory_wrap or memory.
    images
        Pictures to answer; by default, test images.
    queries
        How many images; in Python also a Dataset of queries.
    pick
        Which images: the `first` of the test set; `mistakes`, those that the model gets wrong, the
        surest first; or `training`, images of the training set, drawn by the seed.
    memory
        kept, the images that the model keeps; random, others by the seed; all, the whole training
        set.
    heatmaps
        What integrated gradients start from: white, black, grey or blurred; none draws no heatmaps.
    each
        How many examples, and as many counterfactuals, are drawn beside a query; 0: all that the
        answer gives weight to.
    """
    from datablame.analyses.memory import BASELINES, MOST, view
    from datablame.analyses.queries import picked, pictures
    from datablame.pages.memory import draw

    if heatmaps not in ("none", *BASELINES):
        raise InputError(f"--heatmaps takes {', '.join(BASELINES)} or none; got '{heatmaps}'")
    at_least(0, each=each)
    if images and (queries, pick) != (8, "first"):
        raise InputError("pictures are named: leave out --queries and --pick")
    with held_model(run) as run:
        if not isinstance(queries, int):
            asked = queries
        else:
            asked = pictures(run, images) if images else picked(run, queries, pick)
        found = view(run, asked, memory, most=0 if each == 0 else max(MOST, each))
        error = draw(found, None if heatmaps == "none" else heatmaps, each)
        return dataclasses.replace(found, error=error)


def replace(run: RunLike, *names: str, choose: str | None = None, size: int = 0) -> Run:
    """Make a run of the same weights with another memory, so that a deployed model points at known
    images.

    Returns the new run, next to the first. Raises InputError for names of no training image.

    Parameters
    ----------
    run
        Folder of a run that was trained with --head memory_wrap or memory.
    names
        Names of training images (as in examples.parquet and verdict.csv), chosen by hand.
    choose
        Without names: prototypes (whose means are the classes' means; the default), used (those
        that are looked at most), balanced or random.
    size
        How many images; 0: the number used in training.
    """
    from datablame.analyses.memory import replaced

    at_least(0, size=size)
    with held_model(run) as run:
        return replaced(run, choose, size, names)


def test(*runs: RunLike, memories: int = 5) -> MemoryTest:
    """Test models and, with a memory, their explanations: each run, and mean and spread over seeds.

    Returns the accuracies. Raises InputError where there are no test images.

    Parameters
    ----------
    runs
        Folders of runs, or folders that hold several.
    memories
        How many times the test images are answered, each time by other random memories.
    """
    from contextlib import ExitStack

    from datablame.analyses.memory import MemoryTest

    if not runs:
        raise InputError("name one run or more")
    at_least(1, memories=memories)
    with ExitStack() as stack:
        found = [stack.enter_context(held_model(run)) for run in several(runs)]
        return MemoryTest.of(found, memories)
