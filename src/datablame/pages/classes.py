"""What enriching found, as pictures: easy, hard and need-review images of a class, its map with the
images as points, and its groups.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from datablame.analyses.classes import NAMES, PICTURES, ClassView
from datablame.base import files
from datablame.base.shapes import Float, Int
from datablame.dynamics.temperature_curves import relative_to_class
from datablame.pages.figures import GREEN, GREY, INK, ORANGE, RED, encoded, thumbnail
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


def page(each: ClassView, lines: list[tuple[str, np.ndarray, list[str]]]) -> Image.Image:
    """Lines of framed images with their curves beneath, all on one scale, each line under its
    title: (title, rows, colours).
    """
    step, title = SIDE + 2 * EDGE + 6, 24
    tall = step + title + STRIP
    width = max([len(rows) for _, rows, _ in lines], default=0) * step + 6
    whole = Image.new("RGB", (max(width, 420), len(lines) * tall + 6), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    seen = [relative_to_class(each.run, torch.from_numpy(rows)).T.numpy() for _, rows, _ in lines]
    low = min([0.0, *(float(curves.min()) for curves in seen if curves.size)])
    high = max([low + 1e-6, *(float(curves.max()) for curves in seen if curves.size)])
    scale = 0.75 * STRIP / (high - low)
    for place, ((text, rows, colours), curves) in enumerate(zip(lines, seen, strict=True)):
        y = 6 + place * tall
        pen.text((6, y), text, INK, font)
        up = (
            y
            + tall
            - 14
            - (np.broadcast_to(curves, (len(rows), max(2, each.run.trace.epochs))) - low) * scale
        )
        middle = y + tall - 14 + low * scale
        for turn, (row, colour, heights) in enumerate(zip(rows.tolist(), colours, up, strict=True)):
            left, right = 6 + turn * step, 6 + turn * step + SIDE + 2 * EDGE - 1
            whole.paste(_framed(each, row, colour), (left, y + title - 4))
            pen.line([(left, middle), (right, middle)], GREY)
            pen.line(
                list(zip(np.linspace(left, right, len(heights)), heights, strict=True)), colour, 2
            )
    return whole


def kinds(each: ClassView) -> Image.Image:
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
    return page(each, lines)


def _group_page(each: ClassView) -> Image.Image:
    """A row of images of each group, the smallest group last, with its size."""
    lines = []
    for group in range(int(each.group.max()) + 1):
        place = np.flatnonzero(each.group == group)
        picked = place[np.linspace(0, len(place) - 1, min(PICKED, len(place))).round().astype(int)]
        share = len(place) / len(each.rows)
        text = f"{each.name}, group {group + 1}: {len(place):,} images, {share:.1%}"
        lines.append((text, each.rows[picked], [COLOURS[act] for act in each.act[picked].tolist()]))
    return page(each, lines)


def shown(each: ClassView) -> Int[np.ndarray, " p"]:
    """Places in the class that are on the map; red and orange are drawn last."""
    place = np.flatnonzero(np.isfinite(each.places[:, 0]))
    return place[np.argsort(np.isin(each.act[place], [DROP, ASK]), kind="stable")]


def spots(each: ClassView, place: Int[np.ndarray, " p"]) -> Float[np.ndarray, "p 2"]:
    """Places on the map, brought to the unit square."""
    low, high = np.nanmin(each.places, 0), np.nanmax(each.places, 0)
    return (each.places[place] - low) / np.maximum(high - low, 1e-9)


def _map_page(each: ClassView, side: int = 1600) -> Image.Image:
    """The map with the images themselves as points."""
    whole = Image.new("RGB", (side, side), "black")
    place = shown(each)
    for at, which in zip(spots(each, place).tolist(), place.tolist(), strict=True):
        tile = _framed(each, int(each.rows[which]), COLOURS[int(each.act[which])], SIDE).resize(
            (DOT, DOT)
        )
        whole.paste(tile, (round(at[0] * (side - DOT)), round((1 - at[1]) * (side - DOT))))
    return whole


def draw(each: ClassView) -> None:
    """figures/classes-<class>-kinds.png, -map.png and -groups.png."""
    for name, make in zip(PICTURES, (kinds, _map_page, _group_page), strict=True):
        files.write_bytes(each.picture(name), encoded(make(each)))
