"""The verb that shows a run on one page."""

from __future__ import annotations

from pathlib import Path

from datablame.verbs.opening import RunLike, held, opened


def report(run: RunLike, *others: RunLike) -> Path:
    """Write report.html: summary, suspects, scores, curves, before and after, seconds by stage. Of
    several runs, compared.html in the folder of the first: what each found, side by side.

    Returns the path of the page. Raises InputError for a folder that is no run.

    Parameters
    ----------
    run
        Folder of a run.
    others
        Folders of runs to set beside it, judged as it is.
    """
    from datablame.base import progress
    from datablame.pages import compared
    from datablame.pages import report as page

    with held(run) as run, progress.stage("report"):
        if others:
            return compared.write([run, *map(opened, others)])
        return page.write(run)
