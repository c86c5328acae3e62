"""The distribution of the scores with a cut that can be moved, and the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from datablame.base.methods import JUDGE
from datablame.pages.figures import BLUE, GREY, INK, RED, Section, figure
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import DROP, FIX, Verdict

FIGURES = ("distribution",)


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
        own = verdict.by.startswith(JUDGE)
        what = "log odds that the label is wrong" if own else "suspicion"
        axis.set_xlabel(what, fontsize=9, color=GREY)
        axis.set_ylabel("examples", fontsize=9, color=GREY)
        if axis.get_ylim()[1] > 100:
            axis.set_yscale("symlog", linthresh=10)
        axis.legend(frameon=False, fontsize=8, loc="upper right")

    html = rendered(
        "scores",
        figure=figure(run, "distribution", draw),
        rows=_by_class(run, verdict),
        pairs=_numbered(run, verdict),
        matrix=_matrix(run, verdict),
        cuts=_cuts(verdict),
    )
    return Section("Scores", html, 20)


SQUARE = 25
"""Classes up to which the whole matrix is shown."""
CUTS, CLASSES = 120, 200
"""Places of the cut, and classes in the table."""


def _cuts(verdict: Verdict) -> dict[str, Any] | None:
    """Of places of the cut: how many examples lie above it, how many of them are wrong by
    expectation, and the score there.
    """
    if verdict.p_wrong is None:
        return None
    order = verdict.suspicion.argsort(descending=True, stable=True)
    n, sums = len(order), verdict.p_wrong[order].double().cumsum(0)
    count = np.unique((np.linspace(0, 1, CUTS) ** 2 * n).round().astype(int))
    last = np.maximum(count - 1, 0)
    wrong = np.where(count > 0, sums.numpy()[last], 0.0)
    now = len(verdict.suspects)
    return {
        "count": count.tolist(),
        "wrong": wrong.round(1).tolist(),
        "score": verdict.suspicion[order].numpy()[last].round(3).tolist(),
        "all": float(sums[-1]),
        "now": int(np.abs(count - now).argmin()),
    }


def _numbered(run: Run, verdict: Verdict) -> list[dict[str, Any]]:
    """The pairs of classes that are most often confused, with their numbers."""
    number = {name: k for k, name in enumerate(run.data.classes)}
    return [
        pair | {"row": number[pair["given"]], "column": number[pair["right"]]}
        for pair in verdict.confusions(run.data)
    ]


def _matrix(run: Run, verdict: Verdict) -> dict[str, Any] | None:
    """The suspects of each given class by the class that is proposed, and how strong each cell is,
    0 to 1; None where there are too many classes, or nothing to show.
    """
    classes, rows = run.data.classes, verdict.suspects
    rows = rows[verdict.proposed[rows] >= 0]
    if len(classes) > SQUARE or not len(rows):
        return None
    pairs = run.data.labels[rows] * len(classes) + verdict.proposed[rows]
    count = pairs.bincount(minlength=len(classes) ** 2).reshape(len(classes), -1).numpy()
    return {"classes": classes, "cells": count.tolist(), "most": int(count.max())}


def _between(count: dict[str, float] | None) -> str:
    """How many labels of a class are wrong, with the ends of the interval."""
    return f"{count['wrong']:,.0f} ({count['low']:,.0f} to {count['high']:,.0f})" if count else "-"


def _by_class(run: Run, verdict: Verdict) -> list[dict[str, Any]]:
    """The classes with the largest shares of suspects: examples, suspects, how many labels are
    wrong, and what they are taken for.
    """
    suspect = np.isin(verdict.act.numpy(), (DROP, FIX))
    labels, proposed, classes = run.data.labels.numpy(), verdict.proposed.numpy(), run.data.classes
    expected = verdict.by_class(run.data)
    rows = []
    for k in np.unique(labels).tolist():
        mine = suspect & (labels == k)
        to, count = np.unique(proposed[mine & (proposed >= 0)], return_counts=True)
        taken = ", ".join(f"{classes[to[i]]} ({count[i]})" for i in count.argsort()[::-1][:3])
        size = int((labels == k).sum())
        rows.append(
            {"name": classes[k], "examples": size, "suspects": int(mine.sum()), "taken": taken}
            | {"share": mine.sum() / size, "wrong": _between(expected.get(classes[k]))}
            | {"count": expected.get(classes[k], {}).get("wrong", 0.0)}
        )
    return sorted(rows, key=lambda row: -row["share"])[:CLASSES]
