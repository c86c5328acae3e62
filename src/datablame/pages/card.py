"""The card: eight lines that say what was found, the path of the table first."""

from __future__ import annotations

from datablame.base import files
from datablame.run import Run
from datablame.verdict import ASK, DROP, FIX, Verdict


def write(run: Run, verdict: Verdict) -> None:
    """card.txt."""
    files.write_text(run.path / "card.txt", card(run, verdict))


def card(run: Run, verdict: Verdict) -> str:
    """Table, report, data, model, suspects, estimate, measure, proof: a line each."""
    n, about = len(run.data), run.about
    held = verdict.count(DROP, FIX)
    estimate, low, high = verdict.estimate
    test = (
        f"; test {len(run.test):,}, accuracy {about['test_accuracy']:.2%}"
        if run.test is not None and about["test_accuracy"] is not None
        else ""
    )
    return (
        f"table      {run.path / 'examples.parquet'}\n"
        f"report     {run.path / 'report.html'}\n"
        f"data       {run.data!r}\n"
        f"model      {run.recipe.model}, {run.recipe.epochs} epochs, {run.recipe.folds} "
        f"folds{test}\n"
        f"suspects   {held:,} of {n:,} ({held / n:.1%}): {verdict.count(FIX):,} to fix, "
        f"{verdict.count(DROP):,} to drop; {verdict.count(ASK):,} hard ones to look at\n"
        f"estimate   {estimate:,.0f} wrong labels (95 % interval {low:,.0f} to "
        f"{high:,.0f}), by {verdict.by}\n"
        f"ranking    {_ranking(run)}\n"
        f"cleaning   {_cleaning(run)}\n"
    )


def _ranking(run: Run) -> str:
    m = run.measures
    if m is None:
        return "the truth is not known: look at the worst suspects in the report"
    return (
        f"ROC-AUC {m['roc_auc']:.4f}, average precision {m['average_precision']:.4f}; "
        f"inspecting 10 % finds {m['found_at_10']:.0%} of the wrong labels, 20 % finds "
        f"{m['found_at_20']:.0%}"
    )


def _cleaning(run: Run) -> str:
    facts = run.comparison
    return facts["sentence"] if facts else "not retrained"
