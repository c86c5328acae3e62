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


def enrich(run: RunLike, *classes: str, rule: str = "adaptive", least: int = 0) -> dict[str, dict[str, object]]:
    """Show each class as its curves of temperatures do: easy, hard, need review, a map, and the groups it is made of.

    Of a run that was trained with --trainer temper. The pictures are in figures/, and in report.html after `datablame report`.

    Parameters
    ----------
    run
        Folder of a run.
    classes
        Classes to look at; without any, all.
    rule
        adaptive, or rows or map, two rules with fixed thresholds: see `datablame methods`, judge trajectory.
    least
        Fewest images that are a group; 0: a hundredth of the class, and at least 5.
    """
    from datablame import enriching
    from datablame.faces import enriched
    from datablame.ground import clock

    with held(run) as run:
        found = enriching.enrich(run, classes, rule, least)
        if run.data.images is not None:
            with clock.stage("draw"):
                for each in found:
                    enriched.draw(each)
        return enriching.summary(found)


def export(run: RunLike, *, to: Path = Path("examples.csv")) -> Path:
    """Write the table of all examples as CSV or Parquet by the ending of the file's name, the trace as .npz, or the set as class folders.

    Parameters
    ----------
    run
        Folder of a run that has been judged (for .npz and folders, that has been trained).
    to
        File to write: examples.csv is safe to open in a spreadsheet; examples.parquet keeps the types; training_dynamics.npz holds the
        recorded probabilities as Jia et al. (2023) keep them, metadata.pth beside it; a name without an ending is a folder, to which the
        images are copied, a folder a class, with labels.csv (what a verdict changes is written by `apply`).
    """
    from datablame import exporting

    return exporting.export(opened(run), Path(to))
