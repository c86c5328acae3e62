"""look.html: what a first look at a set found, with pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from datablame.analyses.look import CONFLICT, COPY, FEW, LEAK, OUTLIER, SIMILAR, WORDS, Look
from datablame.base import files
from datablame.pages.figures import BLUE, GREY, INK, figure
from datablame.pages.sections.duplicates import tile
from datablame.pages.sections.duplicates import told as copies_told
from datablame.pages.templating import policy, rendered

SHOWN, CLASSES = 24, 30
"""Images of a kind of issue, and classes, that are shown."""
WHY: dict[str, tuple[str, str, int]] = {
    "blank": ("One colour alone.", "contrast", 1),
    "dark": ("The lightest hundredth is dark.", "light", 1),
    "bright": ("The darkest twentieth is nearly white.", "shade", -1),
    "blurred": ("Hardly any edges for its contrast.", "sharpness", 1),
    "low_information": ("Few different greys.", "entropy", 1),
    "odd_size": ("More than six times as large as the median, or as small.", "width", 1),
    "odd_shape": ("Much wider, or taller, than the others.", "width", 1),
    OUTLIER: ("Far from all others in the encoder's features.", "distance", -1),
}
"""Of each kind of issue what it means, the measure by which it is found, and 1 where the lowest are
shown first."""


def draw(found: Look) -> None:
    """look.html in the look's folder."""
    test = found.test
    tiles = [(f"{len(found.data):,}", "images"), (f"{len(found.data.classes):,}", "classes")]
    if test is not None:
        tiles.append((f"{len(test):,}", "test images"))
    tiles += [(f"{len(rows):,}", WORDS[name]) for name, rows in found.issues.items()]
    if found.unreadable:
        tiles.append((f"{len(found.unreadable):,}", "files that were not read"))
    copied = any(name in found.issues for name in (COPY, CONFLICT, LEAK))
    facts = found.to_json()
    page = rendered(
        "look",
        policy=policy(),
        title=found.data.source,
        about=repr(found.data),
        test=None if test is None else f"{len(test):,} ({test.split})",
        tiles=tiles,
        nothing=not found.issues and not found.unreadable,
        classes=_classes(found),
        few=facts["small_classes"][:CLASSES],
        least=FEW,
        issues=_issues(found),
        copies=copies_told(found.known) if copied else None,
        lost=found.unreadable,
        shown=SHOWN,
    )
    files.write_text(found.path / "look.html", page)


def _issues(found: Look) -> list[tuple[str, int, str, list[dict[str, Any]]]]:
    """Of each kind of issue but copies: its name, how many there are, why, and some of them."""
    told, columns = _similar(found), found.columns()
    for name, (why, measure, sign) in WHY.items():
        rows = found.issues.get(name)
        if rows is None:
            continue
        values = np.asarray(columns[measure])
        rows = rows[np.argsort(sign * values[rows], kind="stable")]
        sizes = measure == "width"
        examples = [
            _example(found, row)
            | {
                "value": f"{values[row]} x {columns['height'][row]}"
                if sizes
                else f"{measure} {values[row]:.2g}"
            }
            for row in rows[:SHOWN].tolist()
        ]
        told.append((WORDS[name].capitalize(), len(rows), why, examples))
    return told


def _similar(found: Look) -> list[tuple[str, int, str, list[dict[str, Any]]]]:
    """Pairs of images that show nearly the same, the closest first; nothing without any."""
    rows = found.issues.get(SIMILAR)
    if rows is None or found.twin is None or found.closeness is None:
        return []
    pairs = dict.fromkeys(tuple(sorted((row, int(found.twin[row])))) for row in rows.tolist())
    examples = [
        _example(found, row) | {"value": f"pair {number}"}
        for number, pair in enumerate(list(pairs)[: SHOWN // 2], 1)
        for row in pair
    ]
    why = (
        "The nearest image in the encoder's features is far nearer than the next: a burst, a crop."
    )
    return [(WORDS[SIMILAR].capitalize(), len(rows), why, examples)]


def _example(found: Look, row: int) -> dict[str, Any]:
    inner = row - len(found.data)
    return tile(found.data, row) if found.test is None or inner < 0 else tile(found.test, inner)


def _classes(found: Look) -> Markup:
    """An `<img>`: how many images each class has, the largest first."""
    counts = found.data.labels.bincount(minlength=len(found.data.classes)).numpy()
    order = np.argsort(-counts, kind="stable")
    if len(order) > CLASSES:  # both ends
        order = np.concatenate([order[: CLASSES // 2], order[-CLASSES // 2 :]])
    names = [found.data.classes[k][:24] for k in order]

    def paint(axis: Axes) -> None:
        axis.bar(range(len(order)), counts[order], color=BLUE, width=0.7)
        axis.set_xticks(range(len(order)), names, rotation=60, ha="right", fontsize=7, color=INK)
        axis.set_ylabel("images", fontsize=9, color=GREY)
        if len(order) < len(counts):
            axis.set_title(
                f"the largest and the smallest of {len(counts):,} classes", fontsize=9, color=GREY
            )

    return figure(found.path / "figures", "classes", paint, 7, 2.8)
