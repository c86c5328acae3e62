"""Verbs that say why: which training images made an answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.verbs.holding import RunLike, held

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.pairs import Links
else:
    Dataset = Links = Any


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
    """Say which training images pushed the model towards an image's label (of a picture of yours: its answer), and which against.

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


def locate(run: RunLike, *classes: str, top: int = 40, over: str = "features") -> dict[str, Any]:
    """Show where in its most memorised images a run's memorization lies, and check it by masking.

    The pictures are in figures/ (PNG and PDF), and in report.html after `datablame report`.

    Parameters
    ----------
    run
        Folder of a run.
    classes
        Classes to look at; without any, the whole set.
    top
        How many of the most memorised images, of each class.
    over
        features: cells of the encoder's last map; pixels: the image itself, finer and slower.
    """
    from datablame import locating
    from datablame.faces import located

    with held(run) as run:
        found = locating.located(run, classes, top, over)
        located.draw(found)
    return {
        "picture": str(run.path / "figures" / f"matrix-{over}.png"),
        "images": len(found.rows),
        "largest_error": round(float(found.error.max()), 5),
        "lost_by_masking_a_tenth": round(float(found.highest[0]), 4),
        "lost_at_random": round(float(found.random[0]), 4),
    }


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
