"""What enriching found, as pictures: easy, hard and need-review images of a class, its map with the
images as points, and its groups.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from datablame.analyses.classes import NAMES, PICTURES, ClassView
from datablame.base import files
from datablame.base.shapes import Float, Int
from datablame.dynamics.temperature_curves import curves as curves_of
from datablame.pages.contact_sheet import square
from datablame.pages.figures import (
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    encoded,
    figure,
    saved,
    thumbnail,
)
from datablame.run import Run
from datablame.verdict import ASK, DROP, KEEP

COLOURS: dict[int, str] = {KEEP: GREEN, DROP: RED, ASK: ORANGE}
SIDE, EDGE, STRIP = 96, 4, 40
"""Pixels of an image, of its border, and of the curve under it."""
PICKED = 10
"""Images a row."""
DOT = 28
"""Pixels of an image on a map."""


def _framed(each: ClassView, row: int, colour: str, side: int = SIDE) -> Image.Image:
    """The image with a border of a colour."""
    tile = Image.new("RGB", (side + 2 * EDGE, side + 2 * EDGE), colour)
    image = thumbnail(each.run.data, row, side).convert("RGB")
    image.thumbnail((side, side))
    box = Image.new("RGB", (side, side), "black")
    box.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    tile.paste(box, (EDGE, EDGE))
    return tile


@dataclass
class Page:
    """A page of images, with curves (points, colour, width) and words (x, y, text) on it."""

    image: Image.Image
    curves: list[tuple[np.ndarray, str, int]] = field(default_factory=list)
    words: list[tuple[int, int, str]] = field(default_factory=list)

    def painted(self) -> Image.Image:
        whole = self.image.copy()
        pen, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
        for points, colour, width in self.curves:
            pen.line(list(map(tuple, points.tolist())), colour, width)
        for x, y, text in self.words:
            pen.text((x, y), text, INK, font)
        return whole

    def pdf(self) -> bytes:
        """Curves and words as what they are, images at their own resolution."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        wide, high = self.image.size
        sheet = Figure(figsize=(wide / 100, high / 100))
        FigureCanvasAgg(sheet)
        axis = sheet.add_axes((0, 0, 1, 1))
        axis.set_axis_off()
        axis.imshow(np.asarray(self.image), extent=(0, wide, high, 0), interpolation="none")
        for points, colour, width in self.curves:
            axis.plot(*points.T, color=colour, linewidth=0.72 * width)
        for x, y, text in self.words:
            axis.text(x, y, text, color=INK, fontsize=10, va="top")
        axis.set(xlim=(0, wide), ylim=(high, 0))
        return saved(sheet, "pdf")


def page(each: ClassView, lines: list[tuple[str, np.ndarray, list[str]]], curves: str) -> Page:
    """Lines of framed images with their curves beneath, all on one scale, each line under its
    title: (title, rows, colours).
    """
    step, title = SIDE + 2 * EDGE + 6, 24
    tall = step + title + STRIP
    width = max([len(rows) for _, rows, _ in lines], default=0) * step + 6
    whole = Page(Image.new("RGB", (max(width, 420), len(lines) * tall + 6), "white"))
    seen = [curves_of(each.run, torch.from_numpy(rows), curves).T.numpy() for _, rows, _ in lines]
    low = min([0.0, *(float(part.min()) for part in seen if part.size)])
    high = max([low + 1e-6, *(float(part.max()) for part in seen if part.size)])
    scale = 0.75 * STRIP / (high - low)
    for place, ((text, rows, colours), part) in enumerate(zip(lines, seen, strict=True)):
        y = 6 + place * tall
        foot = y + tall - 14
        whole.words.append((6, y, text))
        up = (
            foot - (np.broadcast_to(part, (len(rows), max(2, each.run.trace.epochs))) - low) * scale
        )
        for turn, (row, colour, heights) in enumerate(zip(rows.tolist(), colours, up, strict=True)):
            left, right = 6 + turn * step, 6 + turn * step + SIDE + 2 * EDGE - 1
            whole.image.paste(_framed(each, row, colour), (left, y + title - 4))
            zero = np.array([[left, foot + low * scale], [right, foot + low * scale]])
            along = np.linspace(left, right, len(heights))
            whole.curves += [(zero, GREY, 1), (np.stack([along, heights], 1), colour, 2)]
    return whole


def kinds(each: ClassView, curves: str = "log") -> Page:
    """Three rows: the coolest of the easy, the hottest of the hard, and of those to review the ones
    that cooled most.
    """
    order: dict[int, np.ndarray] = {KEEP: each.end, DROP: -each.end, ASK: each.end - each.peak}
    lines = []
    for act, name in NAMES.items():
        mine = each.act == act
        rows = each.rows[mine]
        picked = rows[np.argsort(order[act][mine], kind="stable")][:PICKED]
        lines.append((f"{each.name}: {name}, {len(rows):,}", picked, [COLOURS[act]] * len(picked)))
    return page(each, lines, curves)


def _group_page(each: ClassView, curves: str) -> Page:
    """A row of images of each group, the smallest group last, with its size."""
    lines = []
    for group in range(int(each.group.max()) + 1):
        place = np.flatnonzero(each.group == group)
        picked = place[np.linspace(0, len(place) - 1, min(PICKED, len(place))).round().astype(int)]
        share = len(place) / len(each.rows)
        text = f"{each.name}, group {group + 1}: {len(place):,} images, {share:.1%}"
        lines.append((text, each.rows[picked], [COLOURS[act] for act in each.act[picked].tolist()]))
    return page(each, lines, curves)


def shown(each: ClassView) -> Int[np.ndarray, " p"]:
    """Places in the class that are on the map; red and orange are drawn last."""
    place = np.flatnonzero(np.isfinite(each.places[:, 0]))
    return place[np.argsort(np.isin(each.act[place], [DROP, ASK]), kind="stable")]


def spots(each: ClassView, place: Int[np.ndarray, " p"]) -> Float[np.ndarray, "p 2"]:
    """Places on the map, brought to the unit square."""
    low, high = np.nanmin(each.places, 0), np.nanmax(each.places, 0)
    return (each.places[place] - low) / np.maximum(high - low, 1e-9)


def _map_page(each: ClassView, side: int = 1600) -> Page:
    """The map with the images themselves as points."""
    whole = Page(Image.new("RGB", (side, side), "black"))
    place = shown(each)
    for at, which in zip(spots(each, place).tolist(), place.tolist(), strict=True):
        tile = _framed(each, int(each.rows[which]), COLOURS[int(each.act[which])], SIDE).resize(
            (DOT, DOT)
        )
        spot = round(at[0] * (side - DOT)), round((1 - at[1]) * (side - DOT))
        whole.image.paste(tile, spot)
    return whole


def draw(each: ClassView, curves: str = "log") -> None:
    """figures/classes-<number>-<class>-kinds.png, -map.png and -groups.png, and the same as PDF."""
    pages = kinds(each, curves), _map_page(each), _group_page(each, curves)
    for name, made in zip(PICTURES, pages, strict=True):
        files.write_bytes(each.picture(name), encoded(made.painted()))
        files.write_bytes(each.picture(name).with_suffix(".pdf"), made.pdf())


def follow(run: Run, rows: Int[Tensor, " n"], curves: str) -> None:
    """figures/temperatures-of-images: the curve of each of some images, which stands at its end."""
    heights = curves_of(run, rows, curves).numpy()
    time = np.arange(1, len(heights) + 1)

    def paint(axis: Axes) -> None:
        from matplotlib.offsetbox import AnnotationBbox, OffsetImage

        for turn, row in enumerate(rows.tolist()):
            label = run.data.classes[int(run.data.labels[row])]
            (line,) = axis.plot(time, heights[:, turn], label=f"{run.data.name(row)}, {label}")
            if run.data.drawn:
                image = OffsetImage(np.asarray(square(run.data, row, 48)), zoom=0.5)
                end = (time[-1], heights[-1, turn])
                away = (18 + 34 * (turn % 3), 0)
                edge = {"edgecolor": line.get_color(), "linewidth": 1.5}
                box = AnnotationBbox(
                    image,
                    end,
                    away,
                    boxcoords="offset points",
                    bboxprops=edge,
                    pad=0.1,
                    annotation_clip=False,
                )
                axis.add_artist(box)
        names = {"log": "log temperature, over its class", "raw": "temperature"}
        axis.axhline(curves == "raw", color=GREY, linewidth=0.8)
        axis.set_xlabel("epoch", color=INK, fontsize=9)
        axis.set_ylabel(names[curves], color=INK, fontsize=9)
        axis.legend(frameon=False, fontsize=8, loc="upper left")

    figure(run, "temperatures-of-images", paint, 7, 3.4)
