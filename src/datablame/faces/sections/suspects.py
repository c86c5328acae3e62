"""The worst suspects as pictures."""

from __future__ import annotations

from html import escape

from jaxtyping import Int
from torch import Tensor

from datablame.faces.figures import Section, encoded, picture, thumbnail
from datablame.ground import store
from datablame.run import Run
from datablame.verdict import ACTS, ASK, DROP, Verdict

SHOWN = 60
HARD = "Hard, not clearly wrong", "Suspect, but the second opinion agrees with the given label."
REVIEW = "Need review", "Their temperatures rose and fell again, or end between those of easy and of hard images."


def suspects(run: Run) -> Section | None:
    """The most suspect images with given and proposed label, then the hard ones."""
    if run.data.images is None or not (run.path / "verdict.csv").exists():
        return None
    verdict = Verdict.read(run.path / "verdict.csv", run.data)
    order = verdict.suspicion.argsort(descending=True, stable=True)
    hard = order[verdict.act[order] == ASK][: SHOWN // 5]
    worst = verdict.suspects[:SHOWN]
    if len(worst):
        sheet(run, verdict, worst[:32])
    html = gallery(run, verdict, worst) or "<p>No label is held to be wrong.</p>"
    if len(hard):
        title, why = REVIEW if verdict.by.startswith("trajectory") else HARD
        html += f"<h3>{title}</h3><p>{why} They were kept.</p>{gallery(run, verdict, hard)}"
    return Section("Worst suspects", html, 10)


def gallery(run: Run, verdict: Verdict, rows: Int[Tensor, " n"]) -> str:
    return (
        f'<div class="gallery">{"".join(tile(run, verdict, row) for row in rows.tolist())}</div>' if len(rows) else ""
    )


def tile(run: Run, verdict: Verdict, row: int) -> str:
    data = run.data
    given, proposed = data.classes[data.labels[row]], int(verdict.proposed[row])
    to = (
        f'&rarr; <b class="to">{escape(data.classes[proposed])}</b> <i>{verdict.chance[row]:.0%}</i>'
        if proposed >= 0
        else "dropped"
        if verdict.act[row] == DROP
        else "kept"
    )
    truth = ""
    if data.truth is not None and data.truth[row] >= 0:
        right = data.truth[row] == data.labels[row]
        truth = (
            f'<span class="truth {"right" if right else "wrong"}">truth: {escape(data.classes[data.truth[row]])}</span>'
        )
    return (
        f'<figure class="{ACTS[verdict.act[row]]}"><img src="{picture(data, row)}" alt="" loading="lazy">'
        f'<figcaption><s>{escape(given)}</s> {to}{truth}<span class="name">{escape(data.name(row))}</span></figcaption></figure>'
    )


def sheet(run: Run, verdict: Verdict, rows: Int[Tensor, " n"]) -> None:
    """figures/suspects.png: the worst suspects on one page, for a mail or a README."""
    from PIL import Image, ImageDraw, ImageFont

    side, gap, text, columns = 96, 10, 30, 8
    lines = -(-len(rows) // columns)
    page = Image.new("RGB", (columns * (side + gap) + gap, lines * (side + gap + text) + gap), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(11)
    for place, row in enumerate(rows.tolist()):
        x, y = gap + place % columns * (side + gap), gap + place // columns * (side + gap + text)
        page.paste(thumbnail(run.data, row, side).convert("RGB").resize((side, side)), (x, y))
        pen.text((x, y + side + 2), run.data.classes[run.data.labels[row]][:14], "#c8372d", font)
        proposed = int(verdict.proposed[row])
        pen.text(
            (x, y + side + 15), ("-> " + run.data.classes[proposed])[:16] if proposed >= 0 else "", "#2e8b57", font
        )
    store.write_bytes(run.path / "figures" / "suspects.png", encoded(page))
