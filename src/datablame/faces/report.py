"""report.html: one self-contained page that one would show a colleague."""

from __future__ import annotations

from pathlib import Path

from datablame.ground import plug, store
from datablame.run import Run

ROOM = "faces/sections"


def write(run: Run) -> Path:
    """Ask every section of the room for its part, and put those that have something to say on one page."""
    from jinja2 import Environment, FileSystemLoader

    parts = [part for name in plug.names(ROOM) if (part := plug.find(ROOM, name)(run))]
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent / "pages"), autoescape=True)
    text = pages.get_template("report.html").render(run=run, sections=sorted(parts, key=lambda part: part.place))
    return store.write_text(run.path / "report.html", text)
