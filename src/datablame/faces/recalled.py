"""Memory images: each query beside the training images that its answer rests on, and where in them it lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from datablame.dataset import Dataset
from datablame.faces.explained import clipped
from datablame.faces.figures import GREEN, GREY, INK, ORANGE, RED, encoded, thumbnail
from datablame.faces.heat import SIDE, over, spread
from datablame.ground import store
from datablame.recalling import Heat, Recalled, heatmaps
from datablame.run import Run

GAP, TEXT, HEAD = 8, 30, 24
EACH, SHOWN = 5, 16
"""Memory images of a kind beside a query, and queries on a picture."""


def picture_of(run: Run, memory: str, what: str = "") -> Path:
    return run.path / "figures" / f"recalled-{memory}{what}.png"


def draw(found: Recalled, baseline: str | None = "white") -> float | None:
    """The pictures of the first queries: memory images, and with a baseline heatmaps; returns the largest relative error of a heatmap's sum."""
    count = min(SHOWN, len(found.queries))
    path = picture_of(found.run, found.memory, "-heatmaps")
    store.remove(path)  # of other queries, perhaps
    store.write_bytes(picture_of(found.run, found.memory), encoded(sheet(found, count)))
    if baseline is None:
        return None
    heats = [heatmaps(found, query, baseline) for query in range(count)]
    store.write_bytes(path, encoded(heated(found, heats, baseline)))
    return max(error for _, error in heats)


class Page:
    """A white page with lines of labelled images."""

    def __init__(self, wide: int, lines: int, heads: Sequence[tuple[int, str, str]]):
        self.tall = SIDE + TEXT + GAP
        self.image = Image.new("RGB", (wide, HEAD + lines * self.tall + GAP), "white")
        self.pen = ImageDraw.Draw(self.image)
        self.font, bold = ImageFont.load_default(11), ImageFont.load_default(13)
        for x, text, colour in heads:
            self.pen.text((x, 5), text, colour, bold)

    def put(
        self, image: Image.Image, x: int, line: int, texts: Sequence[tuple[str, str]], framed: bool = False
    ) -> None:
        y = HEAD + line * self.tall
        self.image.paste(image, (x, y))
        if framed:
            self.pen.rectangle((x, y, x + SIDE - 1, y + SIDE - 1), outline=ORANGE, width=3)
        for step, (text, colour) in enumerate(texts):
            self.pen.text((x, y + SIDE + 1 + 13 * step), clipped(text, SIDE, self.font), colour, self.font)


def asked(found: Recalled, query: int) -> tuple[Image.Image, list[tuple[str, str]]]:
    """(a query, its label and the model's answer); pictures of one's own have no label but what the model said of them."""
    label, answer = found.queries.classes[found.queries.labels[query]], found.run.data.classes[found.answers[query]]
    said, own = f"{found.chances[query]:.0%} {answer}", found.queries.source == "pictures"
    told = [(Path(found.queries.name(query)).name, INK), (said, INK)]
    known = [(label, INK), (said, GREEN if label == answer else RED)]
    return square(found.queries, query), told if own else known


def square(data: Dataset, row: int) -> Image.Image:
    return thumbnail(data, row, SIDE).convert("RGB").resize((SIDE, SIDE))


def sheet(found: Recalled, count: int) -> Image.Image:
    """A line a query: its most weighted examples, then its most weighted counterfactuals, each with its label and weight."""
    data = found.run.data
    left = {True: SIDE + 4 * GAP, False: SIDE + 7 * GAP + EACH * (SIDE + GAP)}
    heads = [
        (GAP, "query", INK),
        (left[True], "examples: the same answer", GREEN),
        (left[False], "counterfactuals: another answer", RED),
    ]
    page = Page(left[False] + EACH * (SIDE + GAP) + GAP, count, heads)
    for query in range(count):
        image, texts = asked(found, query)
        page.put(image, GAP, query, texts)
        for same, start in left.items():
            places = np.flatnonzero((found.said[query] == found.answers[query]) == same)[:EACH]
            for turn, place in enumerate(places):
                row = int(found.rows[query][place])
                label, said = data.classes[data.labels[row]], data.classes[found.said[query][place]]
                wrong = data.wrong is not None and bool(data.wrong[row])
                weight = f"{found.weights[query][place]:.1%}" + ("" if label == said else f" said {said}")
                page.put(square(data, row), start + turn * (SIDE + GAP), query, [(label, INK), (weight, GREY)], wrong)
    return page.image


def heated(found: Recalled, heats: Sequence[tuple[list[Heat], float]], baseline: str) -> Image.Image:
    """A line a query: it, its best example and its best counterfactual, each beside what its pixels add to the answer."""
    data, wide = found.run.data, 2 * SIDE + 4 * GAP
    heads = [
        (GAP, f"query, from {baseline}", INK),
        (GAP + wide, "best example", GREEN),
        (GAP + 2 * wide, "best counterfactual", RED),
    ]
    page = Page(3 * wide + GAP, len(heats), heads)
    for query, (each, error) in enumerate(heats):
        for heat in each:
            image, texts = asked(found, query)
            column = 0
            if heat.row >= 0:
                place = int(np.flatnonzero(found.rows[query] == heat.row)[0])
                column = 1 if found.said[query][place] == found.answers[query] else 2
                image = square(data, heat.row)
                texts = [(data.classes[data.labels[heat.row]], INK), (f"{found.weights[query][place]:.1%}", GREY)]
            x = GAP + column * wide
            page.put(image, x, query, texts)
            note = [(f"sum off by {error:.1%}", GREY)] if column == 0 else []
            page.put(over(image, spread(heat.cells)), x + SIDE + GAP, query, note)
    return page.image
