"""Copies that were found: those with different labels, and those in the test set too."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from datablame.analyses.duplicates import Duplicates, found
from datablame.dataset import Dataset
from datablame.pages.figures import Section, small
from datablame.pages.templating import rendered
from datablame.run import Run

SHOWN, EACH = 24, 8
"""Groups of copies that are shown, and images of each."""


def duplicates(run: Run) -> Section | None:
    """How many copies there are, and the groups whose labels differ; test images that are training
    images too. None where nobody looked, or there are none.
    """
    known = found(run)
    if known is None or not (known.clusters or known.leaks):
        return None
    return Section("Copies", told(known, run.path.name), 12)


def told(known: Duplicates, path: str = "") -> Markup:
    """Copies as HTML; `path`: the run in which people may settle them."""
    groups, data, test = known.conflicts or known.clusters, known.data, known.test
    shown = [
        {
            "equal": known.equal(rows),
            "count": len(rows),
            "tiles": [tile(data, row) for row in rows[:EACH]],
        }
        for rows in groups[:SHOWN]
    ]
    leaks = [[tile(test, row), tile(data, of)] for row, of in known.leaks[:SHOWN] if test]
    return rendered(
        "duplicates",
        sentence=known["sentence"],
        groups=shown,
        total=len(groups),
        differ=bool(known.conflicts),
        leaks=leaks,
        leaked=len(known.leaks),
        path=path,
    )


def tile(data: Dataset, row: int) -> dict[str, Any]:
    """An example among others: its small picture, or its text, with its name and label."""
    text = None if data.texts is None else data.texts[row].as_py()
    return {
        "picture": small(data, row, 64) if data.drawn else None,
        "text": text or data.name(row),
        "name": data.name(row),
        "label": data.classes[int(data.labels[row])],
    }
