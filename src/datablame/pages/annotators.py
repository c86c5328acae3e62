"""The annotators, each with its interval, and the images that deserve another label."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from datablame.analyses.annotators import Annotators
from datablame.base import files
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import BLUE, GREY, INK, RED, figure

SHOWN = 30
"""Annotators in the picture: the least right, where there are more."""
COLUMNS, LINES = 8, 3
NAMED = 4
"""Annotators' labels below an image."""


def draw(found: Annotators) -> None:
    """figures/annotators.png, and figures/another_label.png where there are images."""
    rows = sorted(found.rows.items(), key=lambda row: row[1]["right"])[:SHOWN]
    figure(found.run, "annotators", lambda axis: _dots(axis, rows), 7.0, 1.0 + 0.28 * len(rows))
    if found.run.data.drawn:
        _sheet(found)


def _dots(axis: Axes, rows: list[tuple[str, dict[str, Any]]]) -> None:
    """How often each is right, with the interval, and how often the set's labels agree."""
    for place, (_, row) in enumerate(rows):
        low, high = 100 * row["low"], 100 * row["high"]
        axis.hlines(place, low, high, color=BLUE, linewidth=2, zorder=2)
        axis.scatter(100 * row["right"], place, color=BLUE, s=30, zorder=3)
        axis.scatter(100 * row["agreement"], place, color=GREY, marker="|", s=60, zorder=3)
    names = [f"{name} ({row['labels']:,} labels)" for name, row in rows]
    axis.set_yticks(range(len(rows)), names)
    axis.set_ylim(-0.6, len(rows) - 0.4)
    axis.grid(axis="x", color="#e6e9ef", linewidth=0.8)
    axis.set_xlabel(
        "labels that are right, %, with 95 % interval (grey: agree with the consensus)",
        fontsize=9,
        color=INK,
    )


def _sheet(found: Annotators) -> None:
    """The images that deserve another label, with what each annotator said."""
    data = found.run.data
    assert data.votes is not None
    classes, rows = data.classes, found.order[: COLUMNS * LINES].tolist()
    named = min(NAMED, len(data.annotators))
    wide = COLUMNS * (SIDE + GAP) + GAP
    sheet = ContactSheet(wide, -(-len(rows) // COLUMNS), named, head=GAP)
    for place, row in enumerate(rows):
        given = [int(label) for label in data.votes[row] if label >= 0][:named]
        label = int(data.labels[row])
        words = [(classes[each], INK if each == label else RED) for each in given]
        x = GAP + place % COLUMNS * (SIDE + GAP)
        sheet.put(square(data, row), x, place // COLUMNS, words)
    files.write_bytes(found.run.path / "figures" / "another_label.png", sheet.encoded())
