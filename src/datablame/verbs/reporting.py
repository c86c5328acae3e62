"""The verb that shows a run on one page."""

from __future__ import annotations

from pathlib import Path

from datablame.verbs.opening import RunLike, held


def report(run: RunLike) -> Path:
    """Write report.html: summary, suspects, scores, curves, before and after, seconds by stage.

    Returns the path of the page. Raises InputError for a folder that is no run.

    Parameters
    ----------
    run
        Folder of a run.
    """
    from datablame.base import progress
    from datablame.pages import report as page

    with held(run) as run, progress.stage("report"):
        return page.write(run)
