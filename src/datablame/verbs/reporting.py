"""Showing a run: on one page, or a figure at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from datablame.verbs.opening import RunLike, held, opened

if TYPE_CHECKING:
    from matplotlib.figure import Figure
else:
    Figure = Any


def report(run: RunLike, *others: RunLike, paper: bool = False) -> Path:
    """Write report.html: summary, suspects, scores, curves, before and after, seconds by stage. Of
    several runs, compared.html in the folder of the first: what each found, side by side.

    Returns the path of the page. Raises InputError for a folder that is no run.

    Parameters
    ----------
    run
        Folder of a run.
    others
        Folders of runs to set beside it, judged as it is.
    paper
        Write its figures as SVG and PDF, too.
    """
    from datablame.base import progress
    from datablame.base.errors import InputError
    from datablame.pages import compared
    from datablame.pages import report as page

    with held(run) as run, progress.stage("report"):
        if others and paper:
            raise InputError("--paper is of one run's report: leave out the other runs")
        if others:
            return compared.write([run, *map(opened, others)])
        return page.write(run, paper)


def figures(run: RunLike, *names: str) -> dict[str, Figure]:
    """The figures of the report as matplotlib figures, by name, for a paper or a notebook: of
    Python alone, as `report --paper` writes them to figures/ as PNG, SVG and PDF.

    Nothing is written. Raises InputError for a figure that there is not.

    Parameters
    ----------
    run
        Folder of a run.
    names
        Which; all that the run has without.
    """
    from datablame.pages import report as page

    return page.figures(opened(run), names)
