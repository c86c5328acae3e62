"""Explanations that were asked for: queries, and the training images behind the predictions."""

from __future__ import annotations

from typing import Any

from datablame.analyses import attribute
from datablame.attribution import Attribution
from datablame.pages.figures import Section, picture
from datablame.pages.templating import rendered
from datablame.run import Run

SHOWN, EACH = 8, 5
"""Queries of an explanation, and training images on each side."""


def attribution(run: Run) -> Section | None:
    """For each explanation its queries, and the most helpful and most harmful training images."""
    run = run.with_model
    folders = sorted(path.parent for path in run.path.glob("attributions/*/attribution.json"))
    if not folders or not run.data.drawn:
        return None
    found = []
    for each in (attribute.opened(run, folder) for folder in folders):
        by = ", by the index" if "index" in each.facts else ""
        lines = [_line(each, number, entry) for number, entry in enumerate(each.shown(SHOWN))]
        found.append({"title": each.name + by, "queries": len(each.queries), "lines": lines})
    html = rendered("attribution", found=found, known=run.data.wrong is not None)
    return Section("Why the model answers so", html, 15)


def _line(found: Attribution, number: int, entry: dict[str, Any]) -> dict[str, Any]:
    sides = [
        [each | {"picture": picture(found.data, each["row"], 64)} for each in entry[way][:EACH]]
        for way in ("for", "against")
    ]
    return entry | {"picture": picture(found.queries, number, 64), "sides": sides}
