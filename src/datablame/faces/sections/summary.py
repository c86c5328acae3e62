"""The summary: what was found, in numbers."""

from __future__ import annotations

from datablame.faces.figures import Section
from datablame.proof.comparison import kept
from datablame.proof.metrics import headline
from datablame.run import Run
from datablame.verdict import ASK, DROP, FIX, Verdict


def summary(run: Run) -> Section | None:
    """Tiles with the number of suspects, of wrong labels by estimate, of hard examples, and what cleaning brought."""
    if not (run.path / "verdict.csv").exists():
        return None
    verdict = Verdict.read(run.path / "verdict.csv", run.data)
    n, held = len(run.data), verdict.count(DROP, FIX)
    estimate, low, high = verdict.wrong
    tiles = [
        (f"{held:,}", f"suspects, {held / n:.1%} of {n:,}"),
        (f"{estimate:,.0f}", f"wrong labels by estimate, between {low:,.0f} and {high:,.0f}"),
        (f"{verdict.count(FIX):,} / {verdict.count(DROP):,}", "to fix / to drop"),
        (f"{verdict.count(ASK):,}", "hard, not clearly wrong: look at them"),
    ]
    if measured := headline(run):
        tiles.append((f"{measured['roc_auc']:.4f}", "ROC-AUC against the truth"))
    if gain := kept(run):
        tiles.append((f"{100 * gain['gain'][0]:+.2f}", f"points of test accuracy: {gain['conclusion']}"))
    html = "".join(f'<div class="tile"><b>{number}</b><span>{text}</span></div>' for number, text in tiles)
    return Section("Summary", f'<div class="tiles">{html}</div>', 0)
