"""Images that are odd by themselves: blank, dark, bright, blurred, of an odd size."""

from __future__ import annotations

import numpy as np

from datablame.analyses.look import TABLE, WORDS
from datablame.base import readers
from datablame.data.quality import DEFECTS
from datablame.pages.figures import Section
from datablame.pages.sections.duplicates import tile
from datablame.pages.templating import rendered
from datablame.run import Run

SHOWN = 8
"""Images of a kind that are shown."""


def look(run: Run) -> Section | None:
    """Of each kind how many training images there are, and some of them. None where nobody looked,
    or nothing is odd.
    """
    path = run.path / TABLE
    if not path.exists() or not run.data.drawn:
        return None
    table = readers.read_table(path, issues="string")
    said = table["issues"].to_pylist()[: len(run.data)]
    found = []
    for kind in DEFECTS:
        rows = np.flatnonzero([kind in each.split(", ") for each in said])
        if len(rows):
            tiles = [tile(run.data, row) for row in rows[:SHOWN].tolist()]
            found.append((WORDS[kind].capitalize(), len(rows), tiles))
    return Section("Odd by themselves", rendered("odd", kinds=found), 13) if found else None
