"""The figures of an ablation: test accuracy against the share left out, a line a signal, with
intervals over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from datablame.analyses import scoring
from datablame.pages.figures import BLUE, GREEN, GREY, ORANGE, RED, figure
from datablame.run import Run

COLOURS = (RED, BLUE, GREEN, ORANGE)


def draw(run: Run, table: Sequence[dict[str, Any]]) -> Markup:
    """A picture for each look at the test images, as `<img>`: figures/ablation.png for the images
    as they are, ablation-<noise>-<strength>.png.
    """
    looks = list(dict.fromkeys((row["noise"], row["strength"]) for row in table))
    return Markup("").join(
        page(run, [row for row in table if (row["noise"], row["strength"]) == look], *look)
        for look in looks
    )


def page(run: Run, table: Sequence[dict[str, Any]], noise: str, strength: float) -> Markup:
    """Above, mean over seeds, and the range that holds 95 % of such means (two standard errors);
    below, how much of a score the share holds.
    """
    signals = list(dict.fromkeys(row["signal"] for row in table))
    shares = sorted({row["share"] for row in table})
    x, clean = 100 * np.array(shares), noise == "none"

    def paint(axis: Axes, below: Axes) -> None:
        for turn, signal in enumerate(signals):
            colour = GREY if signal == "random" else COLOURS[turn % len(COLOURS)]
            mine = [row for row in table if row["signal"] == signal]
            points = [
                100 * np.array([r["test_accuracy"] for r in mine if r["share"] == share])
                for share in shares
            ]
            mean = np.array([each.mean() for each in points])
            error = np.array(
                [
                    2 * each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else 0.0
                    for each in points
                ]
            )
            style = "--" if signal == "random" else "-"
            axis.plot(
                x, mean, color=colour, marker="o", markersize=4, label=signal, linestyle=style
            )
            axis.fill_between(x, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
            if signal != "random":
                below.plot(x, 100 * held(run, signal, shares), color=colour, linewidth=1.2)
        title = (
            "test images as they are"
            if clean
            else f"test images under {noise}, strength {strength:g}"
        )
        axis.set_title(title, fontsize=9, color=GREY)
        axis.set_ylabel("test accuracy, %", fontsize=9, color=GREY)
        axis.legend(frameon=False, fontsize=8, loc="lower left")
        axis.tick_params(labelbottom=False)
        below.set_xlabel("share of the training set left out, %", fontsize=9, color=GREY)
        below.set_ylabel("of the score, %", fontsize=9, color=GREY)
        below.set_ylim(0, 105)

    name = "ablation" if clean else f"ablation-{noise}-{strength:g}"
    return figure(run, name, paint, 6.5, 4.2, rows=2, heights=(2, 1))


def held(run: Run, signal: str, shares: Sequence[float]) -> np.ndarray:
    """How much of the total of a score the top shares hold; scores are counted from the smallest,
    or from 0 where none is below.
    """
    values = np.sort(scoring.read(run, signal).astype("float64"))[::-1]
    total = np.concatenate([[0.0], (values - min(values[-1], 0.0)).cumsum()])
    return total[[round(share * len(values)) for share in shares]] / max(total[-1], 1e-30)
