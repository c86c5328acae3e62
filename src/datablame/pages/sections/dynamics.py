"""What the model said of examples as it learned: clean and wrong labels apart, and single
examples.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes
from torch import Tensor

from datablame.analyses import scoring
from datablame.base.errors import InputError
from datablame.base.shapes import Bool
from datablame.pages.figures import BLUE, GREY, INK, RED, Section, figure, thumbnail
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import DROP, FIX

FIGURES = ("dynamics", "traces")

SAMPLE = 20_000
"""Examples whose traces make the bands."""
SHOWN = 6
"""Examples shown one by one, from the least to the most suspect."""


def dynamics(run: Run) -> Section | None:
    """The probability of the given label over the epochs, that of the likeliest other class, and
    the traces of some examples.
    """
    if run.trace.epochs < 3:
        return None
    group = _apart(run)
    if group is None:
        return None
    wrong, names = group
    rows = torch.linspace(0, len(run.data) - 1, min(SAMPLE, len(run.data))).long()
    loss = torch.from_numpy(run.trace["loss"][:, rows.numpy()].astype("float32"))
    curves = [("probability of the given label", (-loss).exp())]
    if "margin" in run.trace:
        margin = torch.from_numpy(run.trace["margin"][:, rows.numpy()].astype("float32"))
        curves.append(("of the likeliest other class", (-loss - margin).exp().clamp_max(1)))
    draw = partial(_bands, curves, wrong[rows], names)
    drawn = figure(run, "dynamics", draw, 3.5 * len(curves), 2.8, columns=len(curves))
    singles = Markup("")
    if run.data.drawn:
        picked = spread(run)
        singles = figure(
            run,
            "traces",
            partial(_single, run, picked),
            2.0 * len(picked),
            3.4,
            columns=len(picked),
            rows=2,
        )
    html = rendered("dynamics", bands=drawn, singles=singles)
    return Section("What the model said as it learned", html, 25)


def _apart(run: Run) -> tuple[Bool[Tensor, " N"], tuple[str, str]] | None:
    """Which examples to draw apart, and what the two groups are called: by the truth, else by the
    verdict.
    """
    if run.data.wrong is not None and run.data.wrong.any():
        return run.data.wrong, ("label right", "label wrong")
    if run.verdict:
        verdict = run.verdict
        return torch.isin(verdict.act, torch.tensor([DROP, FIX])), ("kept", "suspect")
    return None


def _bands(
    curves: list[tuple[str, Tensor]], wrong: Tensor, names: tuple[str, str], *axes: Axes
) -> None:
    for axis, (title, values) in zip(axes, curves, strict=True):
        time = np.linspace(1 / len(values), 1, len(values)) * 100
        for which, name, colour in ((~wrong, names[0], BLUE), (wrong, names[1], RED)):
            if not which.any():
                continue
            lines = values[:, which].quantile(torch.tensor([0.05, 0.25, 0.75, 0.95]), dim=1).numpy()
            axis.fill_between(time, lines[0], lines[3], color=colour, alpha=0.10, linewidth=0)
            axis.fill_between(time, lines[1], lines[2], color=colour, alpha=0.22, linewidth=0)
            axis.plot(
                time, values[:, which].mean(1).numpy(), color=colour, linewidth=1.6, label=name
            )
        axis.set_title(title, fontsize=9, color=GREY)
        axis.set_xlabel("training done, %", fontsize=9, color=GREY)
        axis.set_ylim(-0.02, 1.02)
    axes[0].figure.legend(
        *axes[0].get_legend_handles_labels(),
        frameon=False,
        fontsize=8,
        ncols=2,
        loc="outside lower center",
    )


def spread(run: Run) -> list[int]:
    """Rows from the least to the most suspect, by the first score that there is, else by the mean
    margin.
    """
    try:
        name = next(
            iter(
                sorted(
                    scoring.names(run),
                    key=lambda each: (not each.startswith("detector"), each != "blend"),
                )
            )
        )
        order = scoring.kept(run, name).values.argsort(stable=True)
    except InputError:
        order = run.trace.reduce("loss", lambda loss: loss.mean(0)).argsort(stable=True)
    places = np.array([0.02, 0.5, 0.8, 0.9, 0.97, 1.0])[-SHOWN:] * (len(order) - 1)
    return [int(order[int(place)]) for place in places]


def _single(run: Run, rows: list[int], *axes: Axes) -> None:
    """Pictures above, below them the probability of the given label and of the likeliest other
    class.
    """
    trace, data = run.trace, run.data
    top, below = axes[: len(rows)], axes[len(rows) :]
    for row, picture, axis in zip(rows, top, below, strict=True):
        picture.imshow(
            np.asarray(thumbnail(data, row)), cmap="gray" if data.shape[0] == 1 else None
        )
        picture.axis("off")
        known = ""
        if data.truth is not None and data.wrong is not None and data.wrong[row]:
            known = f"\n(is {data.classes[int(data.truth[row])]})"
        picture.set_title(
            data.classes[int(data.labels[row])] + known, fontsize=8, color=RED if known else INK
        )
        loss = trace["loss"][:, row].astype("float32")
        epochs = np.arange(1, len(loss) + 1)
        axis.plot(epochs, np.exp(-loss), color=BLUE, linewidth=1.4, label="given label")
        if "margin" in trace:
            other = np.exp(np.minimum(-loss - trace["margin"][:, row].astype("float32"), 0))
            axis.plot(epochs, other, color=RED, linewidth=1.0, label="best other")
        axis.set_ylim(-0.03, 1.03)
        axis.set_xticks([1, len(loss)])  # a tick costs more than the lines
        axis.set_yticks([0, 0.5, 1], ["0", "0.5", "1"] if axis is below[0] else ["", "", ""])
        axis.set_xlabel("epoch", fontsize=8, color=GREY)
    below[0].legend(frameon=False, fontsize=7, loc="best")
