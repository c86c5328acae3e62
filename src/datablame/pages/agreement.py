"""How closely two ways of the same scores agree, as points."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from datablame.analyses.agreement import Agreement
from datablame.pages.figures import BLUE, GREY, INK, figure

POINTS = 20_000
"""At most so many are drawn, evenly chosen."""
COLUMNS = 3


def draw(found: Agreement) -> None:
    """figures/agreement: the scores of each of the others against those of the first."""
    first, *others = (each.numpy().ravel() for each in found.values)
    some = np.unique(np.linspace(0, len(first) - 1, min(POINTS, len(first))).round().astype(int))
    columns = min(COLUMNS, len(others))
    rows = -(-len(others) // columns)

    def paint(*axes: Axes) -> None:
        for axis in axes[len(others) :]:
            axis.set_axis_off()
        for axis, (name, facts), values in zip(axes, found.others.items(), others, strict=False):
            axis.scatter(first[some], values[some], s=5, color=BLUE, alpha=0.4, linewidths=0)
            axis.set_title(f"Spearman {facts['spearman']:.4f}", fontsize=9, color=GREY)
            axis.set_xlabel(found.first, fontsize=7, color=INK)
            axis.set_ylabel(name, fontsize=7, color=INK)

    figure(found.run, "agreement", paint, 3.6 * columns, 3.2 * rows, columns, rows)
