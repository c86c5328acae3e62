"""The distribution of the scores, with the cut."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from datablame.pages.figures import BLUE, GREY, INK, RED, Section, figure
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import DROP, FIX, Verdict


def scores(run: Run) -> Section | None:
    """A histogram of suspicion; right and wrong apart where the truth is known, suspects and others
    elsewhere.
    """
    if run.verdict is None:
        return None
    verdict = run.verdict
    values = verdict.suspicion.numpy()
    if run.data.wrong is not None:
        wrong, names = run.data.wrong.numpy(), ("label right", "label wrong")
    else:
        wrong, names = np.isin(verdict.act.numpy(), (DROP, FIX)), ("kept", "suspect")

    def draw(axis: Axes) -> None:
        bins = np.linspace(values.min(), values.max() + 1e-9, 60).tolist()
        axis.hist(
            [values[~wrong], values[wrong]], bins, stacked=True, color=[BLUE, RED], label=names
        )
        axis.axvline(verdict.cut, color=INK, linestyle="--", linewidth=1)
        axis.text(verdict.cut, axis.get_ylim()[1], " cut", color=INK, va="top", fontsize=8)
        axis.set_xlabel("suspicion", fontsize=9, color=GREY)
        axis.set_ylabel("examples", fontsize=9, color=GREY)
        if axis.get_ylim()[1] > 100:
            axis.set_yscale("symlog", linthresh=10)
        axis.legend(frameon=False, fontsize=8, loc="upper right")

    html = rendered(
        "scores", figure=figure(run, "distribution", draw), rows=_by_class(run, verdict)
    )
    return Section("Scores", html, 20)


def _by_class(run: Run, verdict: Verdict) -> list[dict[str, Any]]:
    """The twenty classes with the largest shares of suspects: examples, suspects, and what they
    are taken for.
    """
    suspect = np.isin(verdict.act.numpy(), (DROP, FIX))
    labels, proposed, classes = run.data.labels.numpy(), verdict.proposed.numpy(), run.data.classes
    rows = []
    for k in np.unique(labels).tolist():
        mine = suspect & (labels == k)
        to, count = np.unique(proposed[mine & (proposed >= 0)], return_counts=True)
        taken = ", ".join(f"{classes[to[i]]} ({count[i]})" for i in count.argsort()[::-1][:3])
        size = int((labels == k).sum())
        rows.append(
            {"name": classes[k], "examples": size, "suspects": int(mine.sum()), "taken": taken}
            | {"share": mine.sum() / size}
        )
    return sorted(rows, key=lambda row: -row["share"])[:20]
