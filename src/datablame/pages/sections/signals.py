"""The signals, compared."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from torch import Tensor

from datablame.analyses import scoring
from datablame.base import readers
from datablame.pages.figures import GREY, Section, figure
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("found", "ranking")

HEADS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "fnr_at_noise_rate": "missed at the noise rate",
    "found_at_10": "found in 10 %",
    "found_at_20": "found in 20 %",
    "f1_at_half": "F1 at one half",
    "accuracy_at_half": "accuracy at one half",
}


def signals(run: Run) -> Section | None:
    """Every score against the truth, where it is known."""
    path = run.path / "measures.json"
    if not path.exists():
        return None
    measures = readers.read_json(path)
    if not all(isinstance(row, dict) and set(HEADS) <= set(row) for row in measures.values()):
        raise readers.Damaged(path, "a score lacks its metrics")
    there = scoring.rankings(run)
    table = sorted(measures.items(), key=lambda item: -item[1]["average_precision"])
    rows = [(name, *(_shown(m[key]) for key in HEADS)) for name, m in table]
    ranked = {name: there[name].values for name, _ in table if name in there}
    curves = figure(run, "found", partial(found, run, ranked), 7.0, 3.6)
    curves += figure(run, "ranking", partial(_ranking, run, ranked), 7.0, 3.4, columns=2)
    heads = ("signal", *HEADS.values())
    html = rendered("signals", figures=curves, heads=heads, rows=rows)
    return Section("Signals against the truth", html, 30)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ranking(run: Run, ranked: dict[str, Tensor], left: Axes, right: Axes) -> None:
    """ROC and precision-recall curves of every score."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    wrong, truth = run.data.wrong, run.data.truth
    assert wrong is not None
    assert truth is not None
    bad = wrong[truth >= 0].numpy()
    for place, (name, every) in enumerate(ranked.items()):
        values = every[truth >= 0].numpy()
        style = {"color": f"C{place % 10}", "linewidth": 1.3, "zorder": 3 - place / 100}
        false, true, _ = roc_curve(bad, values)
        precision, recall, _ = precision_recall_curve(bad, values)
        left.plot(100 * false, 100 * true, label=name, **style)
        right.plot(100 * recall, 100 * precision, **style)
    left.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":")
    right.axhline(100 * bad.mean(), color=GREY, linewidth=1, linestyle=":")
    for axis, across, up in (
        (left, "right labels called wrong, %", "wrong labels found, %"),
        (right, "wrong labels found, %", "of those called wrong, %"),
    ):
        axis.set_xlabel(across, fontsize=9, color=GREY)
        axis.set_ylabel(up, fontsize=9, color=GREY)
    left.set_title("ROC", fontsize=9, color=GREY)
    right.set_title("precision and recall", fontsize=9, color=GREY)
    left.legend(frameon=False, fontsize=7, loc="lower right", ncols=1 + len(ranked) // 8)


def found(run: Run, ranked: dict[str, Tensor], axis: Axes) -> None:
    """The share of the wrong labels found against the share inspected, of every score, with the
    ideal and the random line.
    """
    wrong, truth = run.data.wrong, run.data.truth
    assert wrong is not None
    assert truth is not None
    wrong = wrong[truth >= 0]
    bad, inspected = int(wrong.sum()), np.linspace(0, 100, len(wrong) + 1)
    axis.plot(
        [0, 100 * bad / len(wrong), 100],
        [0, 100, 100],
        color=GREY,
        linewidth=1,
        linestyle="--",
        label="ideal",
    )
    axis.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":", label="random")
    for place, (name, every) in enumerate(ranked.items()):
        order = every[truth >= 0].argsort(descending=True, stable=True)
        share = np.concatenate([[0], 100 * wrong[order].numpy().cumsum() / bad])
        axis.plot(
            inspected,
            share,
            linewidth=1.4,
            color=f"C{place % 10}",
            label=name,
            zorder=3 - place / 100,
        )
    axis.set_xlim(0, 100)
    axis.set_xlabel("share of the examples inspected, %", fontsize=9, color=GREY)
    axis.set_ylabel("wrong labels found, %", fontsize=9, color=GREY)
    axis.legend(frameon=False, fontsize=7, loc="lower right", ncols=1 + len(ranked) // 8)
