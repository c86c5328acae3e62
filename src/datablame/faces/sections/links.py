"""Explanations that were asked: queries and the training images behind the model's answers."""

from __future__ import annotations

from html import escape

from datablame import linking
from datablame.faces import explained
from datablame.faces.figures import Section, picture
from datablame.pairs import Links
from datablame.run import Run


def links(run: Run) -> Section | None:
    """For each explanation in the run's folder its queries, the most helpful and the most harmful training images."""
    folders = sorted(path.parent for path in (run.path / "links").glob("*/links.json"))
    if not folders or run.data.images is None:
        return None
    parts = []
    for folder in folders:
        found = linking.opened(run, folder)
        lines = "".join(line(found, number, entry) for number, entry in enumerate(explained.shown(found, 8)))
        note = "A frame marks a training label that is known to be wrong." if run.data.wrong is not None else ""
        parts.append(
            f"<h3>{escape(title(found))}</h3><p>{len(found.queries):,} {'query' if len(found.queries) == 1 else 'queries'}. The training images that pushed the model towards a query's label, "
            f'and away from it. {note}</p><div class="wide"><table class="links">'
            f"<tr><th>query</th><th>pushed towards it</th><th>pushed away from it</th></tr>{lines}</table></div>"
        )
    return Section("Why the model answers so", "".join(parts), 15)


def title(found: Links) -> str:
    """`influence, by the index`."""
    return found.name + (", by the index" if "index" in found.facts else "")


def line(found: Links, number: int, entry: dict) -> str:
    right = "right" if entry["predicted"] == entry["label"] else "wrong"
    query = (
        f'<figure><img src="{picture(found.queries, number, 64)}" alt="">'
        f'<figcaption>{escape(entry["label"])}<span class="said {right}">{entry["chance"]:.0%} {escape(entry["predicted"])}</span></figcaption></figure>'
    )
    sides = [
        "".join(
            f'<figure class="{"framed" if each["wrong"] else ""}"><img src="{picture(found.data, each["row"], 64)}" alt="">'
            f'<figcaption>{escape(each["label"])}<span class="truth">{each["score"]:+.3g}</span></figcaption></figure>'
            for each in entry[way][:5]
        )
        for way in ("for", "against")
    ]
    return f"<tr><td>{query}</td>" + "".join(f'<td><div class="row">{side}</div></td>' for side in sides) + "</tr>"
