"""Memory images: queries with the training images that their answers rest on, and heatmaps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from datablame.analyses.memory import Heat, MemoryView, heatmaps
from datablame.base import files, progress
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREEN, GREY, INK, RED, encoded
from datablame.pages.heat import over, spread

HEAD = 24
"""Pixels of the titles."""
ACROSS, SHOWN = 5, 16
"""Memory images of a kind on a line, and lines of a page."""


def draw(found: MemoryView, baseline: str | None = "white", each: int = ACROSS) -> float | None:
    """The pictures of the queries, a page of them as PNG and all as PDF: memory images, `each` of a
    kind (0: all), and with a baseline heatmaps; returns the largest relative error of a heatmap's
    sum.
    """
    for kind in (".png", ".pdf"):  # of other queries, perhaps
        files.remove(found.picture("-heatmaps").with_suffix(kind))
    _keep(found.picture(), (_sheet(found, part, each) for part in _parts(found, each)))
    if baseline is None:
        return None
    worst = 0.0

    def heated() -> Iterator[Image.Image]:
        nonlocal worst
        count = len(found.queries)
        ticker = progress.Ticker(count, "heatmaps", "queries")
        for start in range(0, count, SHOWN):
            heats = {}
            for query in range(start, min(start + SHOWN, count)):
                heats[query] = heatmaps(found, query, baseline)
                ticker.tick()
            worst = max([worst, *(error for _, error in heats.values())])
            yield _heated(found, heats, baseline)
        ticker.close()

    _keep(found.picture("-heatmaps"), heated())
    return worst


def _keep(path: Path, pages: Iterable[Image.Image]) -> None:
    """The first page as PNG, all of them as PDF."""
    first, *others = pages
    files.write_bytes(path, encoded(first))
    files.write(
        path.with_suffix(".pdf"),
        lambda part: first.save(part, "PDF", save_all=True, append_images=others),
    )


def _kinds(found: MemoryView, query: int, each: int) -> dict[bool, np.ndarray]:
    """Places of a query's examples (True) and counterfactuals, the most weighted first."""
    same = found.said[query] == found.answers[query]
    return {kind: np.flatnonzero(same == kind)[: each or None] for kind in (True, False)}


def _lines(found: MemoryView, query: int, each: int) -> int:
    """How many lines the memory images of a query take."""
    most = max(map(len, _kinds(found, query, each).values()))
    return max(1, -(-most // ACROSS))


def _parts(found: MemoryView, each: int) -> Iterator[list[int]]:
    """Queries of a page each, SHOWN lines long where no query takes more."""
    part: list[int] = []
    used = 0
    for query in range(len(found.queries)):
        lines = _lines(found, query, each)
        if part and used + lines > SHOWN:
            yield part
            part, used = [], 0
        part, used = [*part, query], used + lines
    yield part


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


def _sheet(found: MemoryView, queries: Sequence[int], each: int) -> Image.Image:
    """A line a query, or several: its most weighted examples, then its most weighted
    counterfactuals, each with its label and weight.
    """
    data = found.run.data
    left = {True: SIDE + 4 * GAP, False: SIDE + 7 * GAP + ACROSS * (SIDE + GAP)}
    heads = [
        (GAP, "query", INK),
        (left[True], "examples: the same answer", GREEN),
        (left[False], "counterfactuals: another answer", RED),
    ]
    tall = sum(_lines(found, query, each) for query in queries)
    page = ContactSheet(left[False] + ACROSS * (SIDE + GAP) + GAP, tall, head=HEAD)
    for x, text, colour in heads:
        page.title(x, text, colour)
    line = 0
    for query in queries:
        image, texts = _asked(found, query)
        page.put(image, GAP, line, texts)
        for same, places in _kinds(found, query, each).items():
            for turn, place in enumerate(places):
                row = int(found.rows[query][place])
                label, said = data.classes[data.labels[row]], data.classes[found.said[query][place]]
                wrong = data.wrong is not None and bool(data.wrong[row])
                weight = f"{found.weights[query][place]:.1%}" + (
                    "" if label == said else f" said {said}"
                )
                page.put(
                    square(data, row),
                    left[same] + turn % ACROSS * (SIDE + GAP),
                    line + turn // ACROSS,
                    [(label, INK), (weight, GREY)],
                    wrong,
                )
        line += _lines(found, query, each)
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
