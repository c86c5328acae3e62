"""The distribution of the scores, with the cut."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from datablame.faces.figures import BLUE, GREY, INK, RED, Section, figure
from datablame.run import Run
from datablame.verdict import DROP, FIX, Verdict


def distribution(run: Run) -> Section | None:
    """A histogram of suspicion; right and wrong apart where the truth is known, suspects and others elsewhere."""
    if not (run.path / "verdict.csv").exists():
        return None
    verdict = Verdict.read(run.path / "verdict.csv", run.data)
    values = verdict.suspicion.numpy()
    if run.data.wrong is not None:
        wrong, names = run.data.wrong.numpy(), ("label right", "label wrong")
    else:
        wrong, names = np.isin(verdict.act.numpy(), (DROP, FIX)), ("kept", "suspect")

    def draw(axis: Axes) -> None:
        bins = np.linspace(values.min(), values.max() + 1e-9, 60).tolist()
        axis.hist([values[~wrong], values[wrong]], bins, stacked=True, color=[BLUE, RED], label=names)
        axis.axvline(verdict.cut, color=INK, linestyle="--", linewidth=1)
        axis.text(verdict.cut, axis.get_ylim()[1], " cut", color=INK, va="top", fontsize=8)
        axis.set_xlabel("suspicion", fontsize=9, color=GREY)
        axis.set_ylabel("examples", fontsize=9, color=GREY)
        if axis.get_ylim()[1] > 100:
            axis.set_yscale("symlog", linthresh=10)
        axis.legend(frameon=False, fontsize=8, loc="upper right")

    return Section("Scores", figure(run, "distribution", draw) + by_class(run, verdict), 20)


def by_class(run: Run, verdict: Verdict) -> str:
    """A table: of each class how many examples, suspects, and what they are taken for."""
    from html import escape

    held = np.isin(verdict.act.numpy(), (DROP, FIX))
    labels, proposed = run.data.labels.numpy(), verdict.proposed.numpy()
    shares = sorted(
        ((held[labels == k].mean(), k) for k in range(len(run.data.classes)) if (labels == k).any()), reverse=True
    )[:20]
    rows = []
    for share, k in shares:
        mine = held & (labels == k)
        to, count = np.unique(proposed[mine & (proposed >= 0)], return_counts=True)
        best = ", ".join(f"{escape(run.data.classes[to[i]])} ({count[i]})" for i in count.argsort()[::-1][:3])
        rows.append(
            f"<tr><td>{escape(run.data.classes[k])}</td><td>{(labels == k).sum():,}</td><td>{mine.sum():,}</td><td>{share:.1%}</td><td>{best}</td></tr>"
        )
    head = "<tr><th>given class</th><th>examples</th><th>suspects</th><th>share</th><th>taken for</th></tr>"
    return f"<table>{head}{''.join(rows)}</table>"
