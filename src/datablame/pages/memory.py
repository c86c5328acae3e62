"""Memory images: queries with the training images that their answers rest on, and heatmaps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from datablame.analyses.memory import Heat, MemoryView, heatmaps
from datablame.base import files
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREEN, GREY, INK, RED, encoded
from datablame.pages.heat import over, spread

HEAD = 24
"""Pixels of the titles."""
EACH, SHOWN = 5, 16
"""Memory images of a kind next to a query, and queries on a picture."""


def draw(found: MemoryView, baseline: str | None = "white") -> float | None:
    """The pictures of the first queries: memory images, and with a baseline heatmaps; returns the
    largest relative error of a heatmap's sum.
    """
    count = min(SHOWN, len(found.queries))
    path = found.picture("-heatmaps")
    files.remove(path)  # of other queries, perhaps
    files.write_bytes(found.picture(), encoded(_sheet(found, count)))
    if baseline is None:
        return None
    heats = {query: heatmaps(found, query, baseline) for query in range(count)}
    files.write_bytes(path, encoded(_heated(found, heats, baseline)))
    return max(error for _, error in heats.values())


def heated(found: MemoryView, query: int, baseline: str = "white") -> Image.Image:
    """The heatmaps of one query: it, its best example and its best counterfactual."""
    return _heated(found, {query: heatmaps(found, query, baseline)}, baseline)


def _asked(found: MemoryView, query: int) -> tuple[Image.Image, list[tuple[str, str]]]:
    """(a query, its label and the model's answer); the user's own pictures have no label but the
    model's prediction.
    """
    label, answer = (
        found.queries.classes[found.queries.labels[query]],
        found.run.data.classes[found.answers[query]],
    )
    said, own = f"{found.probabilities[query]:.0%} {answer}", found.queries.source == "pictures"
    told = [(Path(found.queries.name(query)).name, INK), (said, INK)]
    known = [(label, INK), (said, GREEN if label == answer else RED)]
    return square(found.queries, query), told if own else known


def _sheet(found: MemoryView, count: int) -> Image.Image:
    """A line a query: its most weighted examples, then its most weighted counterfactuals, each with
    its label and weight.
    """
    data = found.run.data
    left = {True: SIDE + 4 * GAP, False: SIDE + 7 * GAP + EACH * (SIDE + GAP)}
    heads = [
        (GAP, "query", INK),
        (left[True], "examples: the same answer", GREEN),
        (left[False], "counterfactuals: another answer", RED),
    ]
    page = ContactSheet(left[False] + EACH * (SIDE + GAP) + GAP, count, head=HEAD)
    for x, text, colour in heads:
        page.title(x, text, colour)
    for query in range(count):
        image, texts = _asked(found, query)
        page.put(image, GAP, query, texts)
        for same, start in left.items():
            places = np.flatnonzero((found.said[query] == found.answers[query]) == same)[:EACH]
            for turn, place in enumerate(places):
                row = int(found.rows[query][place])
                label, said = data.classes[data.labels[row]], data.classes[found.said[query][place]]
                wrong = data.wrong is not None and bool(data.wrong[row])
                weight = f"{found.weights[query][place]:.1%}" + (
                    "" if label == said else f" said {said}"
                )
                page.put(
                    square(data, row),
                    start + turn * (SIDE + GAP),
                    query,
                    [(label, INK), (weight, GREY)],
                    wrong,
                )
    return page.image


def _heated(
    found: MemoryView, heats: Mapping[int, tuple[list[Heat], float]], baseline: str
) -> Image.Image:
    """A line a query: it, its best example and its best counterfactual, each with what its pixels
    add to the answer.
    """
    data, wide = found.run.data, 2 * SIDE + 4 * GAP
    heads = [
        (GAP, f"query, from {baseline}", INK),
        (GAP + wide, "best example", GREEN),
        (GAP + 2 * wide, "best counterfactual", RED),
    ]
    page = ContactSheet(3 * wide + GAP, len(heats), head=HEAD)
    for x, text, colour in heads:
        page.title(x, text, colour)
    for line, (query, (each, error)) in enumerate(heats.items()):
        for heat in each:
            image, texts = _asked(found, query)
            column = 0
            if heat.row >= 0:
                place = int(np.flatnonzero(found.rows[query] == heat.row)[0])
                column = 1 if found.said[query][place] == found.answers[query] else 2
                image = square(data, heat.row)
                texts = [
                    (data.classes[data.labels[heat.row]], INK),
                    (f"{found.weights[query][place]:.1%}", GREY),
                ]
            x = GAP + column * wide
            page.put(image, x, line, texts)
            note = [(f"sum off by {error:.1%}", GREY)] if column == 0 else []
            page.put(over(image, spread(heat.cells)), x + SIDE + GAP, line, note)
    return page.image
