"""The card: what was found, in a few lines, from the facts of a run; the next commands last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WEAK, SURE = 0.75, 0.1
"""Below this share of the kept labels that held-out predictions agree with, the model is called
weak; beyond this gap between claimed and seen agreement, too sure."""


def card(facts: dict[str, Any]) -> str:
    """Lines of a word and what it says."""
    return "".join(f"{word:<11}{text}\n" for word, text in lines(facts))


def lines(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Table, report, data, model, and what was found so far; what to be careful about; the next
    commands.
    """
    run = facts["run"]
    if facts.get("acts"):
        yield "table", facts["table"]
        yield "report", facts["report"] or f"none of this verdict yet: datablame report {run}"
    else:
        yield "run", run
    yield "data", facts["data"]
    if facts["not_read"]:
        told = ", ".join(f"{count:,} {why}" for why, count in facts["not_read"].items())
        yield "not read", f"{told}: see unreadable.csv"
    yield "model", _model(facts)
    if not facts.get("acts"):
        yield "next", f"not judged yet: datablame judge {run}"
        return
    acts, n = facts["acts"], facts["examples"]
    found = f"{facts['suspects']:,} of {n:,} ({facts['suspect_share']:.1%})"
    kinds = (
        f"{acts['fix']:,} to fix, {acts['drop']:,} to drop; {acts['ask']:,} hard ones to look at"
    )
    if facts.get("expected_precision") is not None and facts["suspects"]:
        precision, recall = facts["expected_precision"], facts["expected_recall"]
        kinds += f"; expected: {precision:.0%} of them wrong, {recall:.0%} of all wrong ones found"
    yield "suspects", f"{found}: {kinds}"
    yield "estimate", _estimate(facts)
    if facts.get("certificate"):
        yield "certified", facts["certificate"]["sentence"]
    if facts.get("annotators"):
        yield "labelled", facts["annotators"]["sentence"]
    yield "ranking", _ranking(facts)
    if facts.get("test_labels"):
        yield "test set", _test_labels(facts["test_labels"])
    comparison = facts.get("comparison")
    yield "cleaning", comparison["sentence"] if comparison else "not retrained"
    yield from (("careful", text) for text in warnings(facts))
    then = f"try it: datablame retrain {run}"
    if facts.get("elsewhere") or not (facts["folds"] or facts["test_examples"]):
        then = "write the cleaned set for a training of your own:"
    yield "next", f"look at the report, edit verdict.csv, and {then}"
    yield "", f"datablame clean {run} --out {facts.get('cleaned', 'cleaned')}"


def _estimate(facts: dict[str, Any]) -> str:
    low, high = facts["wrong_low"], facts["wrong_high"]
    better = (
        "a better model" if facts.get("elsewhere") else "a stronger encoder (datablame encoders)"
    )
    if not facts.get("wrong_told", True):
        return (
            f"how many labels are wrong cannot be told: at most {high:,.0f} (95 % interval), by "
            f"{facts['by']}; {better} or more images would tell"
        )
    count = f"{facts['wrong_estimate']:,.0f} wrong labels"
    return f"{count} (95 % interval {low:,.0f} to {high:,.0f}), by {facts['by']}"


def _test_labels(facts: dict[str, Any]) -> str:
    found = f"{facts['suspects']:,} of {facts['images']:,} test labels are in doubt, judged apart"
    if facts["accuracy_undoubted"] is None:
        return found
    return (
        f"{found}: test accuracy {facts['accuracy']:.2%}, and {facts['accuracy_undoubted']:.2%} on "
        f"the others; see {facts['table']}"
    )


def _model(facts: dict[str, Any]) -> str:
    text = f"{facts['model']}, {facts['epochs']} epochs, {facts['folds']} folds"
    if facts.get("elsewhere"):
        text = "your own" + (f", {facts['epochs']} epochs" if facts["epochs"] > 1 else "")
    if facts["test_accuracy"] is not None:
        text += f"; test accuracy {facts['test_accuracy']:.2%} on {facts['test_examples']:,}"
    if held := facts.get("heldout"):
        text += f"; held-out predictions agree with {held['agreement']:.1%} of the labels"
    return text


def _ranking(facts: dict[str, Any]) -> str:
    if facts.get("roc_auc") is None:
        return "the truth is not known: look at the worst suspects in the report"
    return (
        f"ROC-AUC {facts['roc_auc']:.4f}, average precision {facts['average_precision']:.4f}; "
        f"inspecting 10 % finds {facts['found_at_10']:.0%} of the wrong labels, 20 % finds "
        f"{facts['found_at_20']:.0%}"
    )


def warnings(facts: dict[str, Any]) -> list[str]:
    """What to be careful about, and what would help."""
    found, held = [], facts.get("heldout")
    better = "more epochs (--epochs), an encoder that has seen many others (datablame encoders)"
    better = "a better model" if facts.get("elsewhere") else better
    if side := facts.get("small_photographs"):
        found.append(
            f"photographs were seen in {side} pixels, by a net that knows no others; an encoder "
            "that has seen many finds more: datablame fetch dinov2, and audit again"
        )
    if held and held["kept_agreement"] < WEAK:
        found.append(
            f"the model is weak: held out, it agrees with {held['kept_agreement']:.0%} of the "
            "labels that are kept, so suspects may be hard images rather than wrong labels; "
            f"{better} or more images would help"
        )
    if held and held["confidence"] - held["kept_agreement"] > SURE:
        found.append(
            f"the model is too sure: it claims {held['confidence']:.0%} on average and agrees with "
            f"{held['kept_agreement']:.0%} of the labels that are kept; look at what is to be fixed"
        )
    return found
