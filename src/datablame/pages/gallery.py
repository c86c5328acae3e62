"""gallery/: all suspects, page after page, beside a report that shows the worst of them."""

from __future__ import annotations

from torch import Tensor

from datablame.base import files
from datablame.base.shapes import Int
from datablame.dataset import Dataset
from datablame.pages.figures import Section, small
from datablame.pages.templating import policy, rendered
from datablame.run import Run
from datablame.verdict import Verdict

FOLDER = "gallery"
EACH, PAGES = 200, 50
"""Images a page, and pages at most."""


def write(run: Run, verdict: Verdict, rows: Int[Tensor, " n"]) -> int:
    """The pages that show these images in their order; returns how many images they show. Pages of
    an earlier verdict are removed.
    """
    parts = rows[: EACH * PAGES].split(EACH) if len(rows) else ()
    for old in (run.path / FOLDER).glob("*.html"):
        if old.stem.isdecimal() and int(old.stem) > len(parts):
            files.remove(old)
    for place, part in enumerate(parts, 1):
        first = 1 + (place - 1) * EACH
        html = rendered(
            "gallery",
            tiles=[tile(run.data, verdict, row) for row in part.tolist()],
            place=place,
            pages=len(parts),
            here=[(k, 1 + (k - 1) * EACH) for k in range(1, len(parts) + 1)],
        )
        title = f"Suspects {first:,} to {first + len(part) - 1:,} of {len(rows):,}"
        page = rendered(
            "report", run=run, sections=[Section(title, html, 0)], policy=policy(), script=None
        )
        files.write_text(run.path / FOLDER / f"{place}.html", page)
    return min(len(rows), EACH * PAGES)


def tile(data: Dataset, verdict: Verdict, row: int) -> dict[str, str | None]:
    """An image in a word."""
    proposed = int(verdict.proposed[row])
    return {
        "picture": small(data, row, 96),
        "given": data.classes[int(data.labels[row])],
        "proposed": data.classes[proposed] if proposed >= 0 else None,
        "name": data.name(row),
    }
