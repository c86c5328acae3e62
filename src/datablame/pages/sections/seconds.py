"""Where time and memory went."""

from __future__ import annotations

from datablame.base import progress, readers
from datablame.pages.figures import Section
from datablame.pages.templating import rendered
from datablame.run import Run


def seconds(run: Run) -> Section | None:
    """Seconds and peak memory by stage of this command, those of earlier ones, and what the run was
    made with.
    """
    made, recipe = (
        ", ".join(f"{name} {value}" for name, value in facts.items())
        for facts in (run.about["made_with"], run.recipe.to_json())
    )
    path = run.path / "profile.txt"
    html = rendered(
        "seconds",
        earlier=readers.read_text(path) if path.exists() else "",
        rows=progress.profile().rows(),
        made=made,
        recipe=recipe,
        folder=run.path.name,
        source=run.data.source,
        fingerprint=run.about["fingerprint"],
    )
    return Section("Seconds and settings", html, 90)
