"""Memorised images with their maps: the image, the map over it, and what of the image the map
keeps.
"""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from PIL import Image

from datablame.analyses.memorization import SHARES, MemorizationMap
from datablame.base import files
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREY, INK, RED, encoded, figure
from datablame.pages.heat import kept, over, spread

LINES, COLUMNS = 10, 4
"""Images of a page: lines, and images a line."""


def draw(found: MemorizationMap) -> None:
    """figures/memorization-<over>.png, the first page; memorization-<over>.pdf, all of them;
    memorization-<over>-masked.png, the check.
    """
    each = LINES * COLUMNS
    pages = [
        page(found, start, min(start + each, len(found.rows)))
        for start in range(0, len(found.rows), each)
    ]
    home = found.run.path / "figures"
    files.write_bytes(home / f"memorization-{found.over}.png", encoded(pages[0]))
    files.write(
        home / f"memorization-{found.over}.pdf",
        lambda part: pages[0].save(part, "PDF", save_all=True, append_images=pages[1:]),
    )
    check(found)


def page(found: MemorizationMap, start: int, stop: int) -> Image.Image:
    """Triples of an image, its map over it (red adds to memorization, blue takes from it), and the
    image where the map is high.
    """
    data, wide = found.run.data, 3 * (SIDE + GAP) + GAP
    sheet = ContactSheet(COLUMNS * wide + GAP, -(-(stop - start) // COLUMNS), head=GAP)
    for turn, place in enumerate(range(start, stop)):
        row = int(found.rows[place])
        image, heat = square(data, row), spread(found.cells[place])
        label, wrong = data.classes[data.labels[row]], False
        if data.truth is not None and data.wrong is not None and data.wrong[row]:
            label, wrong = f"{label} (is {data.classes[data.truth[row]]})", True
        score = f"first order {found.score[place]:.3g}, sum off by {found.error[place]:.1%}"
        words = [(label, RED if wrong else INK), (score, GREY)]
        x = GAP + turn % COLUMNS * wide
        sheet.put(image, x, turn // COLUMNS, words, width=wide - GAP)
        for step, part in enumerate((over(image, heat), kept(image, heat)), 1):
            sheet.put(part, x + step * (SIDE + GAP), turn // COLUMNS)
    return sheet.image


def check(found: MemorizationMap) -> Markup:
    """An `<img>`: the share of the score that is lost when the highest cells are masked, and when
    an equal number is masked at random.
    """

    def paint(axis: Axes) -> None:
        x = 100 * np.array(SHARES)
        axis.plot(
            x, 100 * found.highest, color=RED, marker="o", markersize=4, label="the highest cells"
        )
        axis.plot(
            x,
            100 * found.random,
            color=GREY,
            marker="o",
            markersize=4,
            linestyle="--",
            label="an equal number at random",
        )
        axis.set_xlabel("cells masked, %", fontsize=9, color=GREY)
        axis.set_ylabel("of the score lost, %", fontsize=9, color=GREY)
        axis.legend(frameon=False, fontsize=8)

    return figure(found.run, f"memorization-{found.over}-masked", paint, 5.0, 2.8)
