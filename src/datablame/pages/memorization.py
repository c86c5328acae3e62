"""Memorised images with their maps: the image, the map over it, and what of the image the map
keeps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from PIL import Image

from datablame.analyses.memorization import SHARES, MemorizationMap, cells_of
from datablame.base import files
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREY, INK, RED, encoded, figure
from datablame.pages.heat import kept, over, spread
from datablame.run import Run

LINES, COLUMNS = 10, 4
"""Images of a page: lines, and images a line."""
MOST = 400
"""Images of all pages."""


def draw(found: MemorizationMap) -> None:
    """figures/memorization-<over>.png, the first page; memorization-<over>.pdf, all of them;
    memorization-<over>-masked.png, the check.
    """
    each = LINES * COLUMNS
    pages = [
        page(found, start, min(start + each, len(found.rows)))
        for start in range(0, min(len(found.rows), MOST), each)
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
        first = f"first order {found.score[place]:.3g}, sum off by {found.error[place]:.1%}"
        score = f"{found.exact[place]:.3g}; {first}"
        words = [(label, RED if wrong else INK), (score, GREY)]
        x = GAP + turn % COLUMNS * wide
        sheet.put(image, x, turn // COLUMNS, words, width=wide - GAP)
        for step, part in enumerate((over(image, heat), kept(image, heat)), 1):
            sheet.put(part, x + step * (SIDE + GAP), turn // COLUMNS)
    return sheet.image


def beside(found: MemorizationMap, others: Sequence[Run]) -> None:
    """figures/memorization-<over>-beside.png and .pdf: the most memorised images in this run and in
    others, such as runs under noise of growing strength: a line an image, and of each run the image
    as it saw it with its map over it.
    """
    runs = [found.run, *others]
    rows = found.rows[:LINES]
    cells = [found.cells[: len(rows)], *(cells_of(run, rows, found.over) for run in others)]
    wide = 2 * (SIDE + GAP) + GAP
    sheet = ContactSheet(len(runs) * wide + GAP, len(rows), lines=1, head=24)
    for column, (run, maps) in enumerate(zip(runs, cells, strict=True)):
        x = GAP + column * wide
        sheet.title(x, _seen_as(run), INK)
        for line, row in enumerate(rows.tolist()):
            image = square(run.data, row)
            words = [] if column else [(run.data.classes[run.data.labels[row]], INK)]
            sheet.put(image, x, line, words, width=wide - GAP)
            sheet.put(over(image, spread(maps[line])), x + SIDE + GAP, line)
    stem = found.run.path / "figures" / f"memorization-{found.over}-beside"
    files.write_bytes(stem.with_suffix(".png"), sheet.encoded())
    files.write(stem.with_suffix(".pdf"), lambda part: sheet.image.save(part, "PDF"))


def _seen_as(run: Run) -> str:
    """How a run saw its images: the noise on them, and its strength."""
    noise = run.data.pixels.noise
    return run.data.noise or "as it is" if noise is None else f"{noise.kind} {noise.amount:g}"


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
