"""Pictures of attributions: queries with the images that pushed for and against their class."""

from __future__ import annotations

from pathlib import Path

from datablame.attribution import EACH, Attribution
from datablame.base import files
from datablame.pages.contact_sheet import GAP, SIDE, ContactSheet, square
from datablame.pages.figures import GREEN, GREY, INK, RED


def sheet(found: Attribution) -> Path | None:
    """The picture: a row per query; None where there are no images."""
    if not found.data.drawn:
        return None
    entries = found.shown()
    left = {"for": SIDE + 4 * GAP, "against": SIDE + 7 * GAP + EACH * (SIDE + GAP)}
    page = ContactSheet((SIDE + GAP) * (1 + 2 * EACH) + 9 * GAP, len(entries), head=26)
    page.title(GAP, "query", INK)
    page.title(left["for"], "pushed towards it", GREEN)
    page.title(left["against"], "pushed away from it", RED)
    for number, entry in enumerate(entries):
        right = entry["predicted"] == entry["label"]
        answer = f"{entry['probability']:.0%} {entry['predicted']}"
        words = [(entry["label"], INK), (answer, GREEN if right else RED)]
        page.put(square(found.queries, number), GAP, number, words)
        for way, start in left.items():
            for place, each in enumerate(entry[way]):
                same = each["label"] == entry["label"]
                words = [(each["label"], INK if same else GREY), (f"{each['score']:+.3g}", GREY)]
                x = start + place * (SIDE + GAP)
                page.put(square(found.data, each["row"]), x, number, words, each["wrong"])
    return files.write_bytes(found.picture, page.encoded())
