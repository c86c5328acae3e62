"""Copies that were found: those with different labels, and those in the test set too."""

from __future__ import annotations

from typing import Any

from datablame.analyses.duplicates import found
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
    groups, data = known.conflicts or known.clusters, run.data
    shown = [
        {
            "equal": known.equal(rows),
            "count": len(rows),
            "tiles": [_tile(data, row) for row in rows[:EACH]],
        }
        for rows in groups[:SHOWN]
    ]
    leaks = [[_tile(run.test, row), _tile(data, of)] for row, of in known.leaks[:SHOWN] if run.test]
    html = rendered(
        "duplicates",
        sentence=known["sentence"],
        groups=shown,
        total=len(groups),
        differ=bool(known.conflicts),
        leaks=leaks,
        leaked=len(known.leaks),
        path=run.path.name,
    )
    return Section("Copies", html, 12)


def _tile(data: Dataset, row: int) -> dict[str, Any]:
    text = None if data.texts is None else data.texts[row].as_py()
    return {
        "picture": small(data, row, 64) if data.drawn else None,
        "text": text or data.name(row),
        "name": data.name(row),
        "label": data.classes[int(data.labels[row])],
    }
