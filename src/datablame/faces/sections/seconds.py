"""Where the time went."""

from __future__ import annotations

from html import escape

from datablame.faces.figures import Section
from datablame.ground import clock
from datablame.run import Run


def seconds(run: Run) -> Section | None:
    """Seconds by stage of this command, and what the run was made with."""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{mean:.3f}</td><td>{calls}</td><td>{total:.2f}</td><td>{share:.1%}</td></tr>"
        for name, mean, calls, total, share in clock.profile.rows()
    )
    made = ", ".join(f"{name} {value}" for name, value in run.about["made_with"].items())
    recipe = ", ".join(f"{name} {value}" for name, value in run.recipe.to_json().items())
    table = f"<table><tr><th>stage</th><th>mean s</th><th>calls</th><th>total s</th><th>share</th></tr>{rows}</table>"
    return Section(
        "Seconds and settings", f"{table if rows else ''}<p>{escape(made)}</p><p>recipe: {escape(recipe)}</p>", 90
    )
