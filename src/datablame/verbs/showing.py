"""Verbs that show and hand over: the report and the table."""

from __future__ import annotations

from pathlib import Path

from datablame.verbs.holding import RunLike, held, opened


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
    """Write the table of all examples, one row each, as CSV or Parquet by the ending of the file's name, or the trace as .npz.

    Parameters
    ----------
    run
        Folder of a run that has been judged (for .npz, that has been trained).
    to
        File to write: examples.csv is safe to open in a spreadsheet; examples.parquet keeps the types; training_dynamics.npz holds the
        recorded probabilities as Jia et al. (2023) keep them, metadata.pth beside it.
    """
    from datablame import exporting

    return exporting.export(opened(run), Path(to))
