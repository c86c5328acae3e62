"""Classes as their curves show them: easy, hard, need review, and groups; what `datablame enrich` found."""

from __future__ import annotations

import json
from functools import partial
from html import escape
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from datablame.enriching import NAMES, Class, enriched, summary
from datablame.evidence import curves
from datablame.faces.enriched import COLOURS, COLUMNS, SMALL, atlas, drawn, shown, spots
from datablame.faces.figures import GREY, INK, Section, as_data, encoded, figure
from datablame.run import Run

SHOWN = 12
"""Classes whose pictures are on the page; all are in figures/."""
POINTS = 32
"""Times at which a curve on the map is kept."""
SCRIPT = Path(__file__).parent.parent / "pages" / "map.js"


def enrichment(run: Run) -> Section | None:
    """How many of each class are easy, hard and to review, their curves, three rows of images, the interactive map and the groups."""
    found = enriched(run)
    if not found:
        return None
    html = table(found)
    draw = partial(lines, found)
    html += figure(run, "temperatures", draw, 7, 3)
    html += "<p>The line is the median, the band holds half of the examples; temperatures are beside the median of their class.</p>"
    if run.data.images is None:
        return Section("Easy, hard and need review", html, 27)
    for each in found[:SHOWN]:
        html += f"<h3>{escape(each.name)}</h3>"
        for name in ("kinds", "groups"):
            html += f'<img class="figure" alt="{name}" src="{as_data(drawn(each, name).read_bytes())}">'
        html += plane(each)
    return Section("Easy, hard and need review", html + f"<script>{SCRIPT.read_text()}</script>", 27)


def table(found: list[Class]) -> str:
    """Counts of each kind in each class, with the share of wrong labels where the truth is known."""
    rows = []
    for kind, line in summary(found).items():
        cells = [escape(kind)]
        for name in NAMES.values():
            wrong = line.get(f"{name}_wrong")
            cells.append(f"{line[name]:,}" + (f" ({wrong:.1%} wrong)" if wrong is not None else ""))
        rows.append([*cells, str(line["groups"]), str(line["smallest"])])
    head = "".join(f"<th>{name}</th>" for name in ("class", *NAMES.values(), "groups", "smallest"))
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


def lines(found: list[Class], axis: Axes) -> None:
    """Median curve and band of each kind, over the classes that were enriched."""
    run = found[0].run
    time = np.arange(1, run.trace.epochs + 1)
    for act, name in NAMES.items():
        rows = np.concatenate([each.of(act) for each in found])
        if not len(rows):
            continue
        rows = rows[np.linspace(0, len(rows) - 1, min(len(rows), 5_000)).astype(int)]
        low, half, high = curves.beside(run, torch.from_numpy(rows)).quantile(torch.tensor([0.25, 0.5, 0.75]), dim=1)
        axis.plot(time, half, color=COLOURS[act], label=name)
        axis.fill_between(time, low, high, color=COLOURS[act], alpha=0.2, linewidth=0)
    axis.axhline(0, color=GREY, linewidth=0.8)
    axis.set_xlabel("epoch", color=INK, fontsize=9)
    axis.set_ylabel("log temperature", color=INK, fontsize=9)
    axis.legend(frameon=False, fontsize=8)


def plane(each: Class) -> str:
    """The map that answers to the pointer."""
    place = shown(each)
    seen = curves.beside(each.run, torch.from_numpy(each.rows[place]))
    kept = seen[np.linspace(0, len(seen) - 1, min(POINTS, len(seen))).round().astype(int)].T
    data = each.run.data
    kinds = list(NAMES)
    texts = [
        f"{data.name(int(row))}: {NAMES[int(act)]}, ends {np.exp(end):.2f} times as hot as its class"
        + (f", group {group + 1}" if group >= 0 else "")
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
    words = json.dumps(facts).replace("<", "\\u003c")
    return (
        f'<div class="map"><canvas width="720" height="720"></canvas><div class="card"><canvas class="big" width="128" height="128"></canvas>'
        f'<canvas class="curve" width="200" height="90"></canvas><p>Point at an image to see it, its curve and its group.</p></div>'
        f'<img class="atlas" alt="" hidden src="{as_data(encoded(atlas(each, place), "jpeg"), "jpeg")}"><script type="application/json">{words}</script></div>'
    )
