"""The site's pages of methods: what a method's file says of it, and what was measured of it
(benchmarks/methods.json), with a picture drawn of the same figures.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MEASURED = json.loads((ROOT / "benchmarks" / "methods.json").read_text(encoding="utf-8"))
ROOMS = {
    "signals": "A signal gives every image a number, the higher the more suspect.",
    "judges": "A judge says how many labels are wrong, which, and what is to be done with each.",
    "attributors": "An attributor says how much each training image has to do with an answer.",
    "curvature": "What influence divides gradients by.",
    "trainers": "How the weights are found.",
    "models": "Encoders: what makes features of images.",
    "heads": "What makes answers of features.",
    "noises": "What is planted for a trial.",
    "sources": "What a set is read from.",
}
WHOLE = ("models", "sources")
"""Rooms that are one page."""
RIGHT, WRONG = "currentColor", "#d62728"


def pages() -> dict[str, str]:
    """Text by page."""
    from datablame.base import methods

    made = {}
    for room, what in ROOMS.items():
        names = methods.names(room)
        head = f"# {room.capitalize()}\n\n{what} `datablame methods` lists them.\n"
        if room in WHOLE:
            parts = [
                f"## {name}\n\n{_told(room, name)}\n{_reference(room, name)}" for name in names
            ]
        else:
            parts = [_summary(room, names)]
            made |= {f"methods/{room}/{name}.md": _page(room, name) for name in names}
        made[f"methods/{room}.md"] = "\n".join([head, *parts])
    return made


def unfolded(nav: list[Any]) -> list[Any]:
    """The navigation, with each method's page under its room."""
    from datablame.base import methods

    found = []
    for entry in nav:
        title, where = next(iter(entry.items()))
        room = Path(where).stem if isinstance(where, str) else ""
        if isinstance(where, list):
            entry = {title: unfolded(where)}
        elif where == f"methods/{room}.md" and room not in WHOLE:
            each = [{name: f"methods/{room}/{name}.md"} for name in methods.names(room)]
            entry = {title: [{f"All {room}": where}, *each]}
        found.append(entry)
    return found


def _told(room: str, name: str) -> str:
    """What the file opens with, and its options; the rest is the function's own docstring."""
    from datablame.base import methods

    parts = methods.described(name)[f"{room}: {name}"]
    if "options" in parts:
        parts["options"] = ", ".join(f"`{each}`" for each in parts["options"].split(", "))
    named = (
        f"**{what.capitalize()}:** {parts[what]}"
        for what in ("formula", "when", "options")
        if what in parts
    )
    return "\n\n".join([parts["source"], *named]) + "\n"


def _reference(room: str, name: str) -> str:
    """Its options, off the signature, and what the function says of itself."""
    return (
        f"::: datablame.methods.{room}.{name}.{name}\n    options: {{show_root_heading: false}}\n"
    )


def _page(room: str, name: str) -> str:
    return "\n".join(
        [f"# {name}", "", _told(room, name), _reference(room, name), _measured(room, name)]
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(each) + " |\n" for each in lines)


def _summary(room: str, names: list[str]) -> str:
    """All methods of a room beside each other."""
    from datablame.base import methods

    kept = MEASURED[room]
    head, cells = _figures(room)
    rows = [
        [f"[{name}]({room}/{name}.md)", methods.first_line(room, name),
         methods.opening(room, name).get("when", ""), *cells(kept.get(name, {}))]
        for name in names
    ]  # fmt: skip
    return _table(["method", "what it is", "when", *head], rows) + f"\n{_by()}\n"


def _by() -> str:
    sets = "; ".join(
        f"{name}: {count:,} images, {share:.0%} wrong"
        for name, (count, share) in MEASURED["sets"].items()
    )
    return (
        f"<small>Measured by `benchmarks/methods.py` on {MEASURED['machine']}. Sets: {sets}. "
        "An empty cell was not measured, or the method needs a training of its own.</small>"
    )


def _figures(room: str) -> tuple[list[str], Any]:
    """Columns of a room, and a method's cells in them."""
    sets = list(MEASURED["sets"])
    if room == "signals":
        return [f"average precision, {name}" for name in sets], lambda kept: [
            _number(kept.get(name, {}).get("average precision")) for name in sets
        ]
    if room == "judges":
        return [f"F1, {name}" for name in sets], lambda kept: [
            _number(kept.get(name, {}).get("F1")) for name in sets
        ]
    keys = {
        "trainers": ("test accuracy", "average precision", "seconds"),
        "heads": ("test accuracy", "average precision", "seconds"),
        "noises": ("average precision",),
    }.get(room, ("linear datamodeling score", "seconds"))
    return list(keys), lambda kept: [_number(kept.get(key)) for key in keys]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 0.01 else "below 0.01 s"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:,.0f}"


def _measured(room: str, name: str) -> str:
    """What was measured of a method, and its picture."""
    kept = MEASURED[room].get(name)
    if not kept:
        why = "it needs weights that were not at hand" if name == "named" else "no set was at hand"
        return f"## How well it does\n\nNot measured: {why}.\n"
    draw = {"signals": _of_signal, "judges": _of_judge, "noises": _of_noise}.get(
        room, _of_net if room in ("trainers", "heads") else _of_attributor
    )
    title = "What it does" if room == "noises" else "How well it does, and what it costs"
    return f"## {title}\n\n{draw(name, kept)}\n{_by()}\n"


def _of_signal(name: str, kept: dict[str, Any]) -> str:
    rows = []
    for where, each in kept.items():
        others = [
            other[where]["average precision"]
            for other in MEASURED["signals"].values()
            if where in other
        ]
        place = 1 + sum(value > each["average precision"] for value in others)
        rows.append(
            [where, f"{each['images']:,}", _number(each["average precision"]), _number(each["ROC-AUC"]),
             f"{place} of {len(others)}", _seconds(each["seconds"])]
        )  # fmt: skip
    head = ["set", "images", "average precision", "ROC-AUC", "place", "seconds"]
    where, first = next(iter(kept.items()))
    return (
        f"{_table(head, rows)}\nThe run, its held-out predictions and its features being there; the default "
        "blend is one of those placed. Fewer images: those that the first fold's net learned from.\n\n"
        f"{_histogram(first, f'Scores on {where}: the more to the right, the more suspect')}"
    )


def _of_judge(name: str, kept: dict[str, Any]) -> str:
    rows = [
        [where, f"{each['wrong']:,} of {each['images']:,}", _estimate(each), f"{each['held wrong']:,}",
         _number(each["F1"]), _seconds(each["seconds"])]
        for where, each in kept.items() if where != "amounts"
    ]  # fmt: skip
    head = ["set", "wrong", "says", "drops or fixes", "F1", "seconds"]
    return f"{_table(head, rows)}\n{_chart(kept['amounts'])}"


def _estimate(each: dict[str, Any]) -> str:
    middle, low, high = each["estimate"]
    said = f"{middle:,.0f}" if each["told"] else "cannot be told"
    return f"{said} ({low:,.0f} to {high:,.0f})"


def _of_attributor(name: str, kept: dict[str, Any]) -> str:
    text = (
        f"Linear datamodeling score {kept['interval']} on digits with 10 % wrong labels"
        f"{' and that head' if name == 'memory_wrap' else ''}: the rank correlation of "
        "what is said of each training image with what nets answer that were trained on halves. All 359 test images "
        f"against all training images: {kept['seconds']:.2f} s.\n"
    )
    label = kept["query"][1]
    strip = [f"A {label} that the net takes for a {kept['answer']}", _strip([kept["query"]])]
    strip += ["What speaks most for the label", _strip(kept["for"])]
    strip += ["What speaks most against it", _strip(kept["against"])]
    return text + "\n" + "\n\n".join(strip) + "\n"


def _of_net(name: str, kept: dict[str, Any]) -> str:
    head = [
        "test accuracy, mean of three seeds",
        "average precision",
        "seconds of one training",
    ]
    row = [
        _number(kept["test accuracy"]),
        _number(kept["average precision"]),
        f"{kept['seconds']:.1f}",
    ]
    caption = "What aum says of right and wrong labels after this training"
    return f"{_table(head, [row])}\n{_histogram(kept, caption)}"


def _of_noise(name: str, kept: dict[str, Any]) -> str:
    if "before" in kept:
        return f"Before\n\n{_strip(kept['before'])}\n\nAfter\n\n{_strip(kept['after'])}\n"
    said = kept.get("average precision")
    text = (
        ""
        if said is None
        else f"At 20 %, `aum` finds the wrong labels with an average precision of {said:.3f}.\n\n"
    )
    return text + _matrix(kept["classes"], kept["given"])


def _svg(width: int, height: int, parts: list[str], caption: str) -> str:
    """A drawing in the page's own ink; what it shows is said under it, and to those who hear it."""
    said = html.escape(caption)
    return (
        f'<figure><svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="{said}" '
        f'style="max-width:100%;font-size:12px">{"".join(parts)}</svg><figcaption>{said}</figcaption></figure>\n'
    )


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" fill="currentColor" {more}>{html.escape(words)}</text>'


def _histogram(kept: dict[str, Any], caption: str) -> str:
    """Shares of the right and of the wrong labels by score."""
    width, high = 560, 150
    parts = [
        f'<line x1="0" y1="{high}" x2="{width}" y2="{high}" stroke="currentColor" opacity=".4"/>'
    ]
    for name, colour, opacity in (("right", RIGHT, 0.3), ("wrong", WRONG, 0.6)):
        counts = kept[name]
        most, step = max(*counts, 1), width / len(counts)
        parts += [
            f'<rect x="{k * step:.1f}" y="{high - tall:.1f}" width="{step - 1:.1f}" height="{tall:.1f}" '
            f'fill="{colour}" opacity="{opacity}"/>'
            for k, count in enumerate(counts)
            if (tall := 100 * count / most) > 0
        ]
    parts.append(
        _text(4, 14, f"right labels ({sum(kept['right']):,}), grey; each to its own height")
    )
    parts.append(f'<text x="4" y="30" fill="{WRONG}">wrong labels ({sum(kept["wrong"]):,})</text>')
    return _svg(width, high + 2, parts, caption)


def _chart(amounts: list[dict[str, Any]]) -> str:
    """Said beside true shares."""
    side, left = 260, 40
    top = max(0.45, *(each["estimate"][2] / each["images"] for each in amounts)) * 1.05

    def at(share: float) -> float:
        return side * min(share, top) / top

    parts = [
        f'<path d="M{left} 0V{side}H{left + side}M{left} {side}L{left + side} 0" stroke="currentColor" opacity=".35" fill="none"/>'
    ]
    for each in amounts:
        middle, low, high = (value / each["images"] for value in each["estimate"])
        x = left + at(each["wrong"] / each["images"])
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{side - at(low):.1f}" y2="{side - at(high):.1f}" stroke="{WRONG}" stroke-width="2"/>'
        )
        if each["told"]:
            parts.append(
                f'<circle cx="{x:.1f}" cy="{side - at(middle):.1f}" r="4" fill="{WRONG}"/>'
            )
        parts.append(
            _text(x, side + 14, f"{each['wrong'] / each['images']:.0%}", 'text-anchor="middle"')
        )
    parts += [_text(0, side, "0 %"), _text(0, 12, f"{top:.0%}")]
    caption = (
        "How many are said to be wrong, with the interval, over how many are: digits with uniform noise. On the "
        "line both are the same; no point: it is not told"
    )
    return _svg(left + side + 20, side + 20, parts, caption)


def _matrix(classes: list[str], given: list[list[int]]) -> str:
    """Right classes down, given ones across."""
    cell, left = 24, 84
    size = cell * len(classes)
    most = max(count for k, row in enumerate(given) for j, count in enumerate(row) if j != k) or 1
    parts = []
    for k, row in enumerate(given):
        parts.append(_text(left - 6, k * cell + 16, classes[k], 'text-anchor="end"'))
        for j, count in enumerate(row):
            colour, depth = (RIGHT, 0.15) if j == k else (WRONG, count / most)
            parts.append(
                f'<rect x="{left + j * cell}" y="{k * cell}" width="{cell - 1}" height="{cell - 1}" fill="{colour}" '
                f'opacity="{max(depth, 0.03):.2f}"><title>{html.escape(classes[k])} given as {html.escape(classes[j])}: '
                f"{count}</title></rect>"
            )
    return _svg(
        left + size,
        size,
        parts,
        "Right class down, given class across, in the same order; red: wrong labels",
    )


def _strip(images: list[list[str]]) -> str:
    cells = "".join(
        f'<span style="display:inline-block;text-align:center;margin-right:8px"><img alt="{html.escape(label)}" '
        f'src="data:image/png;base64,{data}" width="56" height="56" style="image-rendering:pixelated"><br>'
        f"{html.escape(label)}</span>"
        for data, label in images
    )
    return f"<p>{cells}</p>"
