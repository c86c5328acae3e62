"""Memorised images beside their matrices: the image, the matrix over it, and what of the image the matrix keeps."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont

from datablame.faces.figures import GREY, INK, RED, encoded, figure, thumbnail
from datablame.faces.heat import SIDE, kept, over, spread
from datablame.ground import store
from datablame.locating import SHARES, Located

GAP, TEXT = 6, 30
LINES, COLUMNS = 10, 4
"""Images of a page: lines, and images a line."""


def draw(found: Located) -> None:
    """figures/matrix-<over>.png, the first page; matrix-<over>.pdf, all of them; matrix-<over>-masked.png, the check."""
    each = LINES * COLUMNS
    pages = [page(found, start, min(start + each, len(found.rows))) for start in range(0, len(found.rows), each)]
    home = found.run.path / "figures"
    store.write_bytes(home / f"matrix-{found.over}.png", encoded(pages[0]))
    store.write(
        home / f"matrix-{found.over}.pdf",
        lambda part: pages[0].save(part, "PDF", save_all=True, append_images=pages[1:]),
    )
    check(found)


def page(found: Located, start: int, stop: int) -> Image.Image:
    """Triples of an image, its matrix over it (red adds to memorization, blue takes from it), and the image where the matrix is high."""
    data, font = found.run.data, ImageFont.load_default(11)
    wide, tall = 3 * SIDE + 4 * GAP, SIDE + TEXT + GAP
    lines = -(-(stop - start) // COLUMNS)
    whole = Image.new("RGB", (COLUMNS * wide + GAP, lines * tall + GAP), "white")
    pen = ImageDraw.Draw(whole)
    for turn, place in enumerate(range(start, stop)):
        x, y = GAP + turn % COLUMNS * wide, GAP + turn // COLUMNS * tall
        row = int(found.rows[place])
        image = thumbnail(data, row, SIDE).convert("RGB").resize((SIDE, SIDE))
        heat = spread(found.cells[place])
        for step, part in enumerate((image, over(image, heat), kept(image, heat))):
            whole.paste(part, (x + step * (SIDE + GAP), y))
        wrong = data.wrong is not None and bool(data.wrong[row])
        label = data.classes[data.labels[row]] + (f" (is {data.classes[data.truth[row]]})" if wrong else "")  # type: ignore[index]
        pen.text((x, y + SIDE + 1), label, RED if wrong else INK, font)
        pen.text(
            (x, y + SIDE + 14), f"first order {found.score[place]:.3g}, sum off by {found.error[place]:.1%}", GREY, font
        )
    return whole


def check(found: Located) -> str:
    """An `<img>`: the share of the score that is lost when the highest cells are masked, and when as many are masked at random."""

    def paint(axis: Axes) -> None:
        x = 100 * np.array(SHARES)
        axis.plot(x, 100 * found.highest, color=RED, marker="o", markersize=4, label="the highest cells")
        axis.plot(
            x, 100 * found.random, color=GREY, marker="o", markersize=4, linestyle="--", label="as many at random"
        )
        axis.set_xlabel("cells masked, %", fontsize=9, color=GREY)
        axis.set_ylabel("of the score lost, %", fontsize=9, color=GREY)
        axis.legend(frameon=False, fontsize=8)

    return figure(found.run, f"matrix-{found.over}-masked", paint, 5.0, 2.8)
