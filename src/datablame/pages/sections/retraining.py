"""Before and after cleaning."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from datablame.pages.figures import BLUE, GREEN, GREY, INK, Section, figure
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("retraining",)


def retraining(run: Run) -> Section | None:
    """Test accuracy before, after, and after removing an equal number at random, a point a seed."""
    facts = run.comparison
    if facts is None:
        return None
    groups = [
        ("before", facts["before"], GREY),
        ("after cleaning", facts["after"], GREEN),
        ("equal number\nremoved at random", facts["control"], BLUE),
    ]

    def draw(axis: Axes) -> None:
        for place, (_, values, colour) in enumerate(groups):
            points = 100 * np.array(values)
            axis.scatter([place] * len(points), points, color=colour, s=30, zorder=3)
            axis.hlines(points.mean(), place - 0.25, place + 0.25, color=colour, linewidth=2)
            axis.text(
                place + 0.28,
                points.mean(),
                f"{points.mean():.2f} %",
                va="center",
                fontsize=8,
                color=INK,
            )
        axis.set_xticks(range(len(groups)), [name for name, _, _ in groups])
        axis.set_xlim(-0.6, len(groups) - 0.2)
        axis.set_ylabel("test accuracy, %", fontsize=9, color=GREY)

    held_out = run.test is not None and run.test.split == "held-out"
    html = rendered(
        "retraining",
        sentence=facts["sentence"],
        held_out=len(run.test) if run.test is not None and held_out else 0,
        folds=len(facts["runs"]["before"]) // len(facts["before"]) if run.cross_fitted else 0,
        tested=facts["test_images"],
        planted=run.data.noise is not None,
        figure=figure(run, "retraining", draw, 5.2, 2.2),
    )
    return Section("Did cleaning help?", html, 5)
