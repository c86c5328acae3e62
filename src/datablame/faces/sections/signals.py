"""The signals beside one another."""

from __future__ import annotations

from html import escape

from datablame.faces.figures import Section
from datablame.ground import store
from datablame.run import Run

HEADS = {
    "roc_auc": "ROC-AUC",
    "average_precision": "average precision",
    "fnr_at_noise_rate": "missed at the noise rate",
    "found_at_10": "found in 10 %",
    "found_at_20": "found in 20 %",
}


def signals(run: Run) -> Section | None:
    """Every score against the truth, where it is known."""
    path = run.path / "measures.json"
    if not path.exists():
        return None
    table = sorted(store.read_json(path).items(), key=lambda item: -item[1]["average_precision"])
    rows = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{m[key]:.4f}</td>' for key in HEADS)}</tr>" for name, m in table
    )
    head = "".join(f"<th>{text}</th>" for text in ("signal", *HEADS.values()))
    return Section("Signals against the truth", f"<table><tr>{head}</tr>{rows}</table>", 30)
