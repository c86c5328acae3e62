"""Where the time went."""

from __future__ import annotations

from datablame.base import progress
from datablame.pages.figures import Section
from datablame.pages.templating import rendered
from datablame.run import Run


def seconds(run: Run) -> Section | None:
    """Seconds by stage of this run's commands, and what the run was made with."""
    made, recipe = (
        ", ".join(f"{name} {value}" for name, value in facts.items())
        for facts in (run.about["made_with"], run.recipe.to_json())
    )
    html = rendered(
        "seconds",
        rows=progress.profile().rows(),
        made=made,
        recipe=recipe,
        folder=run.path.name,
        source=run.data.source,
        fingerprint=run.about["fingerprint"],
    )
    return Section("Seconds and settings", html, 90)
