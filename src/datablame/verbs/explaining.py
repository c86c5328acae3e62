"""Verbs that say why: which training images made an answer, which are memorised, what each class is
made of, how often each annotator is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, overload

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least, unknown
from datablame.verbs.opening import RunLike, held, held_model, opened

if TYPE_CHECKING:
    from datablame.analyses.agreement import Agreement
    from datablame.analyses.annotators import Annotators
    from datablame.analyses.classes import Classes
    from datablame.analyses.memorization import MemorizationMap
    from datablame.attribution import Attribution
    from datablame.base.parts import Sliced
    from datablame.dataset import Dataset
    from datablame.influence.index import Index

    Queries = int | Dataset
else:
    Agreement = Annotators = Attribution = Classes = Index = MemorizationMap = Sliced = Any
    Queries = int

USES = ("auto", "never", "only")


@overload
def explain(
    run: RunLike,
    *images: Path | str,
    method: str = ...,
    label: str | None = ...,
    queries: Queries = ...,
    pick: str = ...,
    keep: int | None = ...,
    index: Literal["auto", "never", "only"] = ...,
    rerank: int = ...,
    part: None = None,
) -> Attribution: ...
@overload
def explain(
    run: RunLike,
    *images: Path | str,
    method: str = ...,
    label: str | None = ...,
    queries: Queries = ...,
    pick: str = ...,
    keep: int | None = ...,
    index: Literal["auto", "never", "only"] = ...,
    rerank: int = ...,
    part: str,
) -> Sliced: ...
def explain(
    run: RunLike,
    *images: Path | str,
    method: str = "influence",
    label: str | None = None,
    queries: Queries = 16,
    pick: str = "first",
    keep: int | None = None,
    index: Literal["auto", "never", "only"] = "auto",
    rerank: int = 0,
    part: str | None = None,
) -> Attribution | Sliced:
    """Say which training images pushed the model towards an image's label, and which away from it.

    Returns the attribution; its `facts` say whether the index answered. Raises InputError for
    pictures that cannot be read, and for `--index only` where there is no index.

    Parameters
    ----------
    run
        Folder of a run.
    images
        Pictures to explain; by default, images of the test set.
    method
        influence, tracin, similarity or memory_wrap, with options:
        influence,kind=kfac,damping=1e-3.
    label
        Class of the pictures whose causes are asked; by default, the one that the model predicts.
    queries
        How many images; in Python also a Dataset of queries.
    pick
        Which images: the `first` of the test set; `mistakes`, those that the model gets wrong, the
        surest first; or `training`, images of the training set, drawn by the seed.
    keep
        Keep only this number of the highest and lowest scores of each query; by default all, and 10
        by the index.
    index
        auto: answer from the index (`datablame index`) for pictures where there is one, exactly
        elsewhere; never: compare with every training image; only: answer from the index or not at
        all.
    rerank
        How many of the index's highest, and an equal number of lowest, are scored again exactly; 0:
        a hundredth of the set, at least 64.
    part
        3/8: meet the queries with the third of eight shares of the training images, for an array of
        jobs; the same command without it then puts together what is there and does what is missing.
    """
    from datablame.analyses import attribute
    from datablame.analyses.queries import picked, pictures
    from datablame.base.parts import Part
    from datablame.pages import attribution

    if index not in USES:
        raise unknown("use of the index", index, USES)
    if label is not None and not images:
        raise InputError("--label is the class of pictures that are named; there are none")
    if images and (queries, pick) != (16, "first"):
        raise InputError("pictures are named: leave out --queries and --pick")
    share = Part.read(part) if part else None
    with held_model(run, patient=share is not None) as run:
        if not isinstance(queries, int):
            asked = queries
        else:
            asked = pictures(run, images, label) if images else picked(run, queries, pick)
        at_least(0, rerank=rerank)
        if share is None:
            found = attribute.answered(run, asked, method, keep, index, rerank, bool(images))
            attribution.sheet(found)
            return found
        if images and index != "never" and attribute.index_of(run, method)[0] is not None:
            raise InputError("the index answers for pictures, in no time; add --index never")
        work = attribute.Share.of(run, asked, method, share)
    return work.work()


def index(run: RunLike, *, method: str = "influence", block: int = 64) -> Index:
    """Make the index from which `explain` answers at once, and say how closely it agrees with exact
    scores.

    Returns the index. Raises InputError for a method that it is not made for.

    Parameters
    ----------
    run
        Folder of a run.
    method
        The influence that it should answer for, with its options.
    block
        Directions of each layer's inputs and outputs that are kept: more agree better and take more
        space.
    """
    from datablame.analyses import attribute

    at_least(1, block=block)
    with held_model(run) as run:
        made, _ = attribute.index_of(run, method, block)
        assert made is not None
        made.to_json()  # makes it, and measures how closely it agrees
        return made


def annotators(run: RunLike) -> Annotators:
    """Say how often each annotator is right, and which images deserve another label.

    Of a set with the labels of several annotators (`--label a b c`). Returns a row an annotator;
    the ranked images are in another_label.csv, both are in report.html after `datablame report`.
    Raises InputError for another set.

    Parameters
    ----------
    run
        Folder of a run.
    """
    from datablame.analyses import annotators as analysis
    from datablame.analyses import scoring
    from datablame.base import progress
    from datablame.label_quality.posterior import posterior
    from datablame.pages.annotators import draw

    with held(run) as run, progress.stage("annotators"):
        found = analysis.annotators(run, posterior(run, scoring.wanted(run, scoring.BLEND)))
        draw(found)
        return found


def agree(run: RunLike, *names: str, queries: int = 16, rows: int = 1000) -> Agreement:
    """Correlate signals, or attribution methods, with the first: another curvature, precision or
    rank.

    Returns the correlations; figures/agreement.png draws them. Raises InputError for fewer than two
    names.

    Parameters
    ----------
    run
        Folder of a run.
    names
        Two or more signals (self_influence self_influence,activations=bf16), or two or more methods
        of attribution.
    queries
        Test images on which attributions are compared.
    rows
        Training images on which attributions are compared.
    """
    from datablame.analyses.agreement import agreement
    from datablame.pages.agreement import draw

    with held_model(run) as run:
        at_least(1, queries=queries, rows=rows)
        found = agreement(run, names, queries, rows)
        draw(found)
        return found


def memorization(
    run: RunLike,
    *classes: str,
    top_k: int = 40,
    over: str = "features",
    beside: Annotated[Sequence[RunLike], Parameter(consume_multiple=True, negative=())] = (),
) -> MemorizationMap:
    """Show where in the most memorised images their memorization lies, and check it by masking.

    Returns the map. The pictures are in figures/ (PNG and PDF), and in report.html after `datablame
    report`. Raises InputError for a class that there is not, or an encoder without a map.

    Parameters
    ----------
    run
        Folder of a run.
    classes
        Classes to look at; by default, the whole set.
    top_k
        How many of the most memorised images, of each class; 0: all. At most 400 are drawn; the
        maps of all are in memorization-features.npz.
    over
        features: cells of the encoder's last map; pixels: the image itself, finer and slower.
    beside
        Runs on the same images, such as under noise of growing strength, whose maps are drawn side
        by side with this one's.
    """
    from datablame.analyses.memorization import memorization_map
    from datablame.pages import memorization as page

    with held_model(run) as run:
        every = [opened(each).with_model for each in beside]
        others = [other for other in every if other.path.resolve() != run.path.resolve()]
        run.data.need_pictures("a map of what was memorised")
        for other in others:
            if (len(other.data), other.data.classes) != (len(run.data), run.data.classes):
                raise InputError(f"{other.path} was not trained on the images of {run.path}")
        found = memorization_map(run, classes, top_k, over)
        page.draw(found)
        if others:
            page.beside(found, others)
    return found


def classes(
    run: RunLike,
    *names: str,
    rule: str = "adaptive",
    least: int = 0,
    curves: Literal["log", "raw"] = "log",
    images: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
) -> Classes:
    """Show each class by its temperature curves: easy, hard, need review, a map, and its groups.

    Of a run trained with `--trainer data_parameters`. Returns a view of each class. The pictures
    are in figures/ (PNG and PDF), and in report.html after `datablame report`. Raises InputError
    for another run.

    Parameters
    ----------
    run
        Folder of a run.
    names
        Classes to look at; by default, all.
    rule
        adaptive, or rows or map, two rules with fixed thresholds: see `datablame methods`, judge
        trajectory.
    least
        Fewest images that make a group; 0: a hundredth of the class, and at least 5.
    curves
        What maps, groups and pictures go by: logarithms of the temperatures relative to their
        class, or raw temperatures.
    images
        Names of training images whose curves are drawn in figures/temperatures-of-images.png.
    """
    from datablame.analyses.classes import Classes, divided
    from datablame.base import progress
    from datablame.pages.classes import draw, follow

    with held(run) as run:
        rows = run.data.rows_of(images)
        found = divided(run, names, rule, least, curves)
        if len(rows):
            follow(run, rows, curves)
        if run.data.drawn:
            with progress.stage("draw"):
                for each in found:
                    draw(each, curves)
        return Classes(found)
