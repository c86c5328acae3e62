"""Classes as their curves show them: easy, hard, need review, and groups; what `datablame classes`
found.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes

from datablame.analyses.classes import NAMES, ClassView, classes_of, summary
from datablame.dynamics import temperature_curves
from datablame.pages.classes import COLOURS, shown, spots
from datablame.pages.contact_sheet import COLUMNS, SMALL, atlas
from datablame.pages.figures import GREY, INK, Section, as_data, encoded, figure
from datablame.pages.templating import rendered
from datablame.run import Run

FIGURES = ("temperatures",)

SHOWN = 12
"""Classes whose pictures are on the page; all are in figures/."""
POINTS = 32
"""Times at which a curve on the map is kept."""


def classes(run: Run) -> Section | None:
    """How many of each class are easy, hard and to review, their curves, three rows of images, the
    interactive map and the groups.
    """
    found = classes_of(run)
    if not found:
        return None
    shown = found[:SHOWN] if run.data.drawn else []
    html = rendered(
        "classes",
        heads=("class", *NAMES.values(), "groups", "smallest"),
        rows=table(found),
        figure=figure(run, "temperatures", partial(lines, found), 7, 3),
        classes=[view(each) for each in shown],
    )
    return Section("Easy, hard and need review", html, 27)


def table(found: list[ClassView]) -> list[list[str]]:
    """Counts of each kind in each class, with the share of wrong labels where the truth is
    known.
    """
    rows = []
    for kind, line in summary(found).items():
        cells = [kind]
        for name in NAMES.values():
            wrong = line.get(f"{name}_wrong")
            cells.append(f"{line[name]:,}" + (f" ({wrong:.1%} wrong)" if wrong is not None else ""))
        rows.append([*cells, str(line["groups"]), str(line["smallest"])])
    return rows


def lines(found: list[ClassView], axis: Axes) -> None:
    """Median curve and band of each kind, over the classes that were looked at."""
    run = found[0].run
    time = np.arange(1, run.trace.epochs + 1)
    for act, name in NAMES.items():
        rows = np.concatenate([each.of(act) for each in found])
        if not len(rows):
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 5_000)).astype(int)]
        low, half, high = temperature_curves.relative_to_class(
            run, torch.from_numpy(rows)
        ).quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
        axis.plot(time, half, color=COLOURS[act], label=name)
        axis.fill_between(time, low, high, color=COLOURS[act], alpha=0.2, linewidth=0)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xlabel("epoch", color=INK, fontsize=9)
    axis.set_ylabel("log temperature", color=INK, fontsize=9)
    axis.legend(frameon=False, fontsize=8)


def view(each: ClassView) -> dict[str, Any]:
    """A class's pictures, and the facts of the map that answers to the pointer."""
    place = shown(each)
    seen = temperature_curves.relative_to_class(each.run, torch.from_numpy(each.rows[place]))
    kept = seen[np.linspace(0, len(seen) - 1, min(POINTS, len(seen))).round().astype(int)].T
    data = each.run.data
    kinds = list(NAMES)
    texts = [
        f"{data.name(int(row))}: {NAMES[int(act)]}, ends {np.exp(end):.2f} times the "
        "temperature of "
        "its class" + (f", group {group + 1}" if group >= 0 else "")
        for row, act, end, group in zip(
            each.rows[place], each.act[place], each.end[place], each.group[place], strict=True
        )
    ]
    facts = {
        "columns": COLUMNS,
        "side": SMALL,
        "colours": [COLOURS[act] for act in kinds],
        "kinds": [kinds.index(act) for act in each.act[place].tolist()],
        "places": spots(each, place).round(4).tolist(),
        "curves": [[round(value, 3) for value in curve] for curve in kept.tolist()],
        "low": float(kept.min()),
        "high": float(kept.max()),
        "texts": texts,
    }
    pictures = [(name, as_data(each.picture(name).read_bytes())) for name in ("kinds", "groups")]
    sheet = as_data(encoded(atlas(each.run.data, each.rows[place].tolist()), "jpeg"), "jpeg")
    return {
        "name": each.name,
        "pictures": pictures,
        "atlas": sheet,
        "facts": facts,
        "shown": len(place),
        "total": len(each.rows),
    }
