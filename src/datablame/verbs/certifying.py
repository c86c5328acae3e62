"""The verb that counts by a person's answers: certify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.verbs.opening import RunLike, held

if TYPE_CHECKING:
    from datablame.analyses.certificate import Certificate
else:
    Certificate = Any

Ask = Callable[[Mapping[str, Any]], str]


def certify(
    run: RunLike,
    *,
    draw: int | None = None,
    out: Path | str | None = None,
    answers: Path | str | None = None,
    seed: int = 0,
    ask: Annotated[Ask | None, Parameter(parse=False)] = None,
) -> Certificate | Path:
    """Count the wrong labels by a person's few answers: draw images to look at, and read what was
    said of them.

    Returns the certificate, kept in certificate.json, or the path of the sheet that was written.
    Its interval holds the number of wrong labels with 95 % probability at whatever moment one
    stops, and whatever the model believes. Raises InputError for a run that is not judged, and for
    answers that are not those to the images that were drawn.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    draw
        How many images to look at, those answered before among them; a tenth is asked about twice.
    out
        The sheet to write them to: .csv, or .parquet with the pictures; into its column `answer`
        goes the name of the right class, or right, wrong or unsure. Without an ending, a folder of
        pictures: move each into the folder of its right class, or to right, wrong or unsure.
    answers
        A sheet, or such a folder, with answers.
    seed
        Which images are drawn.
    ask
        In Python, called for each of `draw` images with its name, given and proposed label, p_wrong
        and row; it returns the answer.
    """
    from datablame.analyses.certificate import Drawing, certificate, kept
    from datablame.exchange.answers import answered, questioned, refuse, sheet

    asked = sum(each is not None for each in (out, answers, ask))
    if asked != 1 or (answers is None) != (draw is not None):
        raise InputError(
            "draw images into a sheet (--draw 200 --out to_answer.csv), then read the answers "
            "(--answers to_answer.csv)"
        )
    at_least(1, draw=draw)
    with held(run) as found:
        if out is not None:
            refuse(Path(out), found.data)
        drawing = Drawing.of(found, seed)
        if out is not None:
            return sheet(drawing, found.data, draw or 0, Path(out))
        said = (
            answered(drawing, found.data, Path(answers))
            if answers is not None
            else questioned(drawing, found.data, draw or 0, ask)
        )
        return kept(found, drawing, certificate(drawing, said), said)
