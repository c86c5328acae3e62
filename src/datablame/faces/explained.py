"""Pictures of links: each query beside the training images that pushed hardest for and against its class."""

from __future__ import annotations

from pathlib import Path

from datablame.faces.figures import encoded, thumbnail
from datablame.ground import store
from datablame.pairs import Links

SHOWN, EACH = 16, 6
"""Queries on a picture, and training images for and against each."""


def shown(links: Links, count: int = SHOWN) -> list[dict]:
    """For each of the first queries: name, label, prediction, chance, and its strongest for and against as (row, name, label, score, wrong)."""
    links = links.first(min(count, len(links.facts["predictions"])))
    data, queries = links.data, links.queries
    sides = {"for": links.top(EACH), "against": links.bottom(EACH)}
    wrong = data.wrong

    def told(row: int, score: float) -> dict:
        label = data.classes[data.labels[row]]
        bad = bool(wrong[row]) if wrong is not None else False
        return {"row": int(row), "name": data.name(int(row)), "label": label, "score": float(score), "wrong": bad}

    found = []
    for number in range(len(queries)):
        predicted, chance = links.facts["predictions"][number]
        entry = {
            "query": queries.name(number),
            "label": data.classes[queries.labels[number]],
            "predicted": data.classes[predicted],
            "chance": chance,
        }
        sign = {"for": 1, "against": -1}
        entry |= {
            side: [
                told(*pair)
                for pair in zip(rows[number].tolist(), values[number].tolist(), strict=True)
                if pair[1] * sign[side] > 0
            ]
            for side, (rows, values) in sides.items()
        }
        found.append(entry)
    return found


def picture_of(links: Links) -> Path:
    """Where the picture of these links lies: `figures/<folder>.png` of the run."""
    return links.path.parents[1] / "figures" / f"{links.path.name}.png"


def sheet(links: Links) -> Path | None:
    """The picture: a line a query; None where there are no images."""
    from PIL import Image, ImageDraw, ImageFont

    if links.data.images is None:
        return None
    side, gap, text, head = 96, 8, 32, 26
    entries = shown(links)
    wide = (side + gap) * (1 + 2 * EACH) + 3 * gap * 3
    page = Image.new("RGB", (wide, head + len(entries) * (side + gap + text) + gap), "white")
    pen, font, bold = ImageDraw.Draw(page), ImageFont.load_default(11), ImageFont.load_default(13)
    left = {"for": side + 4 * gap, "against": side + 7 * gap + EACH * (side + gap)}
    pen.text((gap, 6), "query", "#1f2430", bold)
    pen.text((left["for"], 6), "pushed towards it", "#2e8b57", bold)
    pen.text((left["against"], 6), "pushed away from it", "#c8372d", bold)
    for number, entry in enumerate(entries):
        y = head + number * (side + gap + text)
        page.paste(thumbnail(links.queries, number, side).convert("RGB").resize((side, side)), (gap, y))
        pen.text((gap, y + side + 2), clipped(entry["label"], side, font), "#1f2430", font)
        right = entry["predicted"] == entry["label"]
        answer = f"{entry['chance']:.0%} {entry['predicted']}"
        pen.text((gap, y + side + 15), clipped(answer, side, font), "#2e8b57" if right else "#c8372d", font)
        for way, start in left.items():
            for place, each in enumerate(entry[way]):
                x = start + place * (side + gap)
                page.paste(thumbnail(links.data, each["row"], side).convert("RGB").resize((side, side)), (x, y))
                if each["wrong"]:
                    pen.rectangle((x, y, x + side - 1, y + side - 1), outline="#d9822b", width=3)
                same = each["label"] == entry["label"]
                pen.text((x, y + side + 2), clipped(each["label"], side, font), "#1f2430" if same else "#667085", font)
                pen.text((x, y + side + 15), f"{each['score']:+.3g}", "#667085", font)
    return store.write_bytes(picture_of(links), encoded(page))


def clipped(text: str, width: int, font) -> str:  # noqa: ANN001 - a PIL font
    """As much of the text as fits."""
    while font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
