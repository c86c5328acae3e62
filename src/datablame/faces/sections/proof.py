"""Before and after cleaning."""

from __future__ import annotations

from html import escape

import numpy as np
from matplotlib.axes import Axes

from datablame.faces.figures import BLUE, GREEN, GREY, INK, Section, figure
from datablame.proof.comparison import kept
from datablame.run import Run


def proof(run: Run) -> Section | None:
    """Test accuracy before, after, and after removing as many at random, a point a seed."""
    facts = kept(run)
    if facts is None:
        return None
    groups = [
        ("before", facts["before"], GREY),
        ("after cleaning", facts["after"], GREEN),
        ("as many removed\nat random", facts["control"], BLUE),
    ]

    def draw(axis: Axes) -> None:
        for place, (_, values, colour) in enumerate(groups):
            points = 100 * np.array(values)
            axis.scatter([place] * len(points), points, color=colour, s=30, zorder=3)
            axis.hlines(points.mean(), place - 0.25, place + 0.25, color=colour, linewidth=2)
            axis.text(place + 0.28, points.mean(), f"{points.mean():.2f} %", va="center", fontsize=8, color=INK)
        axis.set_xticks(range(len(groups)), [name for name, _, _ in groups])
        axis.set_xlim(-0.6, len(groups) - 0.2)
        axis.set_ylabel("test accuracy, %", fontsize=9, color=GREY)

    split = noted(run) if run.test is not None and run.test.split == "held-out" else ""
    return Section(
        "Did cleaning help?", f"<p>{escape(facts['sentence'])}.</p>{split}{figure(run, 'proof', draw, 6, 2.8)}", 5
    )


def noted(run: Run) -> str:
    """What must be said of a test split that was held out of the same, perhaps noisy, set."""
    assert run.test is not None
    text = f"There was no test split: {len(run.test):,} images were held out first, and none of them was cleaned or removed."
    if "noise" in run.data.extra:
        return f"<p>{text} No noise was planted in them.</p>"
    return (
        f"<p>{text} Their labels are as noisy as the set's, so the accuracies are lower than on clean labels; "
        "the difference between them still counts.</p>"
    )
