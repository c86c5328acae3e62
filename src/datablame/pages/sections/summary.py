"""The summary: what was found, in numbers."""

from __future__ import annotations

from datablame.pages.figures import Section
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import ASK, DROP, FIX


def summary(run: Run) -> Section | None:
    """Tiles with the number of suspects, of wrong labels by estimate, of hard examples, and what
    cleaning brought.
    """
    if run.verdict is None:
        return None
    verdict = run.verdict
    n, held = len(run.data), verdict.count(DROP, FIX)
    estimate, low, high = verdict.estimate
    tiles = [
        (f"{held:,}", f"suspects, {held / n:.1%} of {n:,}"),
        (f"{estimate:,.0f}", f"wrong labels by estimate, between {low:,.0f} and {high:,.0f}")
        if verdict.told
        else (f"≤ {high:,.0f}", "wrong labels: how many cannot be told"),
        (f"{verdict.count(FIX):,} / {verdict.count(DROP):,}", "to fix / to drop"),
        (f"{verdict.count(ASK):,}", "hard, not clearly wrong: look at them"),
    ]
    if measured := run.measures:
        tiles.append((f"{measured['roc_auc']:.4f}", "ROC-AUC against the truth"))
    if gain := run.comparison:
        tiles.append(
            (f"{100 * gain['gain'][0]:+.2f}", f"points of test accuracy: {gain['conclusion']}")
        )
    if lost := run.data.not_read:
        told = ", ".join(f"{count:,} {why}" for why, count in lost.items())
        tiles.append((f"{sum(lost.values()):,}", f"not read: {told}; see unreadable.csv"))
    return Section("Summary", rendered("summary", tiles=tiles), 0)
