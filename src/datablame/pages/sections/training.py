"""Training curves."""

from __future__ import annotations

from matplotlib.axes import Axes

from datablame.pages.figures import BLUE, GREY, RED, Section, figure
from datablame.run import Run

FIGURES = ("training",)


def training(run: Run) -> Section | None:
    """Training loss and error by epoch, and the mean probability of the given label: suspects and
    the others.
    """
    log = run.log
    if len(log) < 2:
        return None
    epochs = [line["epoch"] for line in log]

    def draw(left: Axes, right: Axes) -> None:
        left.plot(epochs, [line["loss"] for line in log], color=BLUE)
        left.set_title("training loss", fontsize=9, color=GREY)
        right.plot(epochs, [100 * line["train_error"] for line in log], color=RED)
        right.set_title("training error, %", fontsize=9, color=GREY)
        for axis in (left, right):
            axis.set_xlabel("epoch", fontsize=9, color=GREY)
            axis.set_ylim(bottom=0)

    return Section("Training", figure(run, "training", draw, 7, 2.4, columns=2), 40)
