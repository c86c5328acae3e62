"""The worst suspects as pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datablame.analyses.behind import Behind
from datablame.analyses.evidence import Evidence
from datablame.base import files, methods
from datablame.base.shapes import Int
from datablame.pages import gallery
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREEN, RED, Section, large, picture, small
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import ACTS, ASK, Verdict

SHOWN = 60
CELLS, EACH = 16, 6
"""Pairs of given and proposed classes of which some more are kept, and how many."""
NEAR = 8
"""Neighbours that are shown beside an image."""
ASKED = 24
"""Images of which it is said what is behind them: this takes gradients of a model."""
HARD = "Hard, not clearly wrong", "They may be wrong, though not surely enough to be changed."
REVIEW = (
    "Need review",
    "Their temperatures rose and fell again, or end between those of easy and of hard images.",
)


def suspects(run: Run) -> Section | None:
    """The most suspect images with given and proposed label, then the hard ones; texts in the place
    of pictures where the set is one of features.
    """
    if run.data.images is None or run.verdict is None:
        return None
    verdict = run.verdict
    order = verdict.suspicion.argsort(descending=True, stable=True)
    hard = order[verdict.act[order] == ASK][: SHOWN // 5]
    worst = verdict.suspects[:SHOWN]
    if len(worst) and run.data.drawn:
        _sheet(run, verdict, worst[:32])
    title, why = HARD
    if methods.declared("judges", verdict.by.partition(",")[0], "REVIEW"):
        title, why = REVIEW
    more = _of_cells(run, verdict, worst.tolist())
    tiles = [_tile(run, verdict, row) for row in worst.tolist()]
    tiles += [_tile(run, verdict, row) | {"more": True} for row in more]
    beyond = verdict.suspects[: len(verdict.suspects) * (len(verdict.suspects) > SHOWN)]
    paged = gallery.write(run, verdict, beyond) if run.data.drawn else 0
    counts = run.data.labels[verdict.suspects].bincount(minlength=len(run.data.classes)).tolist()
    html = rendered(
        "suspects",
        worst=tiles,
        hard=[_tile(run, verdict, row) for row in hard.tolist()],
        title=title,
        why=why,
        shown=len(worst),
        suspects=len(verdict.suspects),
        paged=paged,
        path=run.path.name,
        classes=[(k, run.data.classes[k], count) for k, count in enumerate(counts) if count],
        evidence=_evidence(run, tiles),
    )
    return Section("Worst suspects", html, 10)


def _of_cells(run: Run, verdict: Verdict, there: list[int]) -> list[int]:
    """Suspects of the pairs of classes that are most often confused, beyond those `there`."""
    rows = verdict.suspects
    pairs = run.data.labels[rows] * (len(run.data.classes) + 1) + verdict.proposed[rows] + 1
    kinds, counts = pairs.unique(return_counts=True)
    found = []
    for pair in kinds[counts.argsort(descending=True, stable=True)][:CELLS].tolist():
        found += rows[pairs == pair][:EACH].tolist()
    return [row for row in found if row not in set(there)]


def _evidence(run: Run, tiles: list[dict[str, Any]]) -> dict[str, Any]:
    """What opens with each of the images: `rows`, and pictures of their neighbours, `thumbs`."""
    known, data = Evidence(run), run.data
    rows, thumbs = {}, {}
    behind = _behind(run, [tile["row"] for tile in tiles[:ASKED]])

    def beside(tile: dict[str, Any], other: int) -> tuple[str, str, str]:
        """Another image, as it is shown beside one: its number, its label, and whose that is."""
        label = int(data.labels[other])
        kind = {tile["given_number"]: "same", tile["proposed_number"]: "other"}.get(label, "")
        if data.drawn and str(other) not in thumbs:
            thumbs[str(other)] = small(data, other)
        return str(other), data.classes[label], kind

    for tile in tiles:
        row = tile["row"]
        around = known.neighbours(row)
        lines = {"nearest neighbours": [other for other, _ in around[:NEAR]]} | behind.get(row, {})
        rows[str(row)] = {
            "name": tile["name"],
            "reasons": known.reasons(row, around),
            "trace": known.trace(row),
            "ranks": known.ranks(row),
            "near": [
                (title, [beside(tile, other) for other in others])
                for title, others in lines.items()
                if others
            ],
            "large": tile["large"] if tile.get("more") else None,
        }
    return {"rows": rows, "thumbs": thumbs}


def _behind(run: Run, asked: list[int]) -> dict[int, dict[str, list[int]]]:
    """Of images, titles of what is behind their labels and the model's answers, and which training
    images these are; nothing where the run does not know.
    """
    found: dict[int, dict[str, list[int]]] = {row: {} for row in asked}
    behind = Behind(run)
    if asked and behind.index is not None:
        for row, sides in zip(asked, behind.pushed(asked), strict=True):
            for title, side in zip(("pushed towards", "pushed away from"), sides, strict=True):
                found[row][f"{title} the given label"] = [other for other, _ in side]
    if asked and behind.remembers:
        view = behind.recalled(asked)
        for query, row in enumerate(asked):
            titles = "examples: the same answer", "counterfactuals: another answer"
            for title, side in zip(titles, behind.kinds(view, query), strict=True):
                found[row][f"of its memory, {title}"] = [other for other, _ in side]
    return found


def _tile(run: Run, verdict: Verdict, row: int) -> dict[str, Any]:
    """What the template shows of one suspect."""
    data, proposed = run.data, int(verdict.proposed[row])
    known = data.truth is not None and int(data.truth[row]) >= 0
    name, given = data.name(row), data.classes[data.labels[row]]
    text = None if data.texts is None else data.texts[row].as_py()
    return {
        "id": f"image-{row}",
        "row": row,
        "given_number": int(data.labels[row]),
        "proposed_number": proposed,
        "by": verdict.by_each(torch.tensor([row]))[0] if verdict.decided is not None else None,
        "large": large(data, row) if data.drawn else None,
        "text": text or name,
        "alt": f"{name}, given as {given}"
        + (f", proposed {data.classes[proposed]}" if proposed >= 0 else ""),
        "file": name.rpartition("/")[2],
        "act": ACTS[verdict.act[row]],
        "picture": picture(data, row) if data.drawn else None,
        "given": given,
        "proposed": data.classes[proposed] if proposed >= 0 else None,
        "probability": float(verdict.probability[row]),
        "truth": data.classes[int(data.truth[row])] if known else None,  # type: ignore[index]  # known
        "name": name,
    }


def _sheet(run: Run, verdict: Verdict, rows: Int[Tensor, " n"], columns: int = 8) -> None:
    """figures/suspects.png: the worst suspects on one page, for a mail or a README."""
    page = ContactSheet(columns * (SIDE + GAP) + GAP, -(-len(rows) // columns), head=GAP)
    for place, row in enumerate(rows.tolist()):
        proposed, classes = int(verdict.proposed[row]), run.data.classes
        words = [(classes[run.data.labels[row]], RED)]
        words += [(f"-> {classes[proposed]}", GREEN)] if proposed >= 0 else []
        x = GAP + place % columns * (SIDE + GAP)
        page.put(square(run.data, row), x, place // columns, words)
    files.write_bytes(run.path / "figures" / "suspects.png", page.encoded())
