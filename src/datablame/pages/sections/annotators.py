"""Who labelled the set, and which images deserve another label."""

from __future__ import annotations

from datablame.analyses.annotators import known
from datablame.pages.figures import Section, as_data
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("annotators",)


def annotators(run: Run) -> Section | None:
    """How often each annotator is right, and the images that another label would help most."""
    facts = known(run)
    if facts is None:
        return None
    home = run.path / "figures"
    paths = [home / "annotators.png", home / "another_label.png"]
    pictures = [as_data(path.read_bytes()) if path.exists() else None for path in paths]
    html = rendered("annotators", facts=facts, pictures=pictures)
    return Section("Annotators", html, 12)
