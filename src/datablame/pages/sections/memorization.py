"""The most memorised images, and where in them their memorization lies."""

from __future__ import annotations

from datablame.analyses.memorization import KINDS, MemorizationMap, path_of
from datablame.pages.figures import Section, as_data
from datablame.pages.memorization import check
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("memorization",)


def memorization(run: Run) -> Section | None:
    """The first page of the maps, and the check that what they mark carries the score."""
    run = run.with_model
    pages = []
    for over in KINDS:
        if path_of(run, over).exists():
            picture = (run.path / "figures" / f"memorization-{over}.png").read_bytes()
            pages.append((over, as_data(picture), check(MemorizationMap.read(run, over))))
    return Section("Memorised", rendered("memorization", pages=pages), 26) if pages else None
