"""The figure of an ablation: test accuracy against the share left out, a line a signal, with intervals over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from datablame.faces.figures import BLUE, GREEN, GREY, ORANGE, RED, figure
from datablame.run import Run

COLOURS = (RED, BLUE, GREEN, ORANGE)


def draw(run: Run, table: Sequence[dict[str, Any]]) -> str:
    """An `<img>`, and figures/ablation.png: mean over seeds, and the range that holds 95 % of such means (two standard errors)."""
    signals = list(dict.fromkeys(row["signal"] for row in table))

    def paint(axis: Axes) -> None:
        for place, signal in enumerate(signals):
            colour = GREY if signal == "random" else COLOURS[place % len(COLOURS)]
            mine = [row for row in table if row["signal"] == signal]
            shares = sorted({row["share"] for row in mine})
            points = [100 * np.array([r["test_accuracy"] for r in mine if r["share"] == share]) for share in shares]
            mean = np.array([each.mean() for each in points])
            error = np.array([2 * each.std(ddof=1) / len(each) ** 0.5 if len(each) > 1 else 0.0 for each in points])
            x = 100 * np.array(shares)
            axis.plot(
                x,
                mean,
                color=colour,
                marker="o",
                markersize=4,
                label=signal,
                linestyle="--" if signal == "random" else "-",
            )
            axis.fill_between(x, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel("share of the training set left out, %", fontsize=9, color=GREY)
        axis.set_ylabel("test accuracy, %", fontsize=9, color=GREY)
        axis.legend(frameon=False, fontsize=8, loc="lower left")

    return figure(run, "ablation", paint, 6.5, 3.4)
