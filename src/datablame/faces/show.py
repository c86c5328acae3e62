"""What a command prints: a table or a card for people, one JSON object for programs."""

from __future__ import annotations

from functools import singledispatch
from pathlib import Path
from typing import Any

from datablame.dataset import Dataset
from datablame.evidence.tuning import Estimate
from datablame.faces import explained
from datablame.ground import store
from datablame.pairs import Links
from datablame.proof.comparison import Comparison, kept
from datablame.proof.metrics import headline
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import ACTS, DROP, FIX, Verdict


@singledispatch
def facts(result: Any) -> dict[str, Any]:
    """The result as plain values under stable names."""
    return result if isinstance(result, dict) else {"result": str(result)}


@facts.register
def _(run: Run) -> dict[str, Any]:
    out: dict[str, Any] = {
        "run": str(run.path),
        "table": str(run.path / "examples.parquet"),
        "report": str(run.path / "report.html"),
        "examples": len(run.data),
    }
    out["test_accuracy"] = run.about["test_accuracy"]
    if (run.path / "verdict.csv").exists():
        out |= facts(Verdict.read(run.path / "verdict.csv", run.data))
    if (run.path / "measures.json").exists():
        out |= (headline(run) or {}) | {"signals": store.read_json(run.path / "measures.json")}
    if compared := kept(run):
        out["comparison"] = compared
    return out


@facts.register
def _(data: Dataset) -> dict[str, Any]:
    known = {} if data.wrong is None else {"wrong_labels": int(data.wrong.sum())}
    counts = dict(zip(data.classes, data.labels.bincount(minlength=len(data.classes)).tolist(), strict=True))
    return {
        "source": data.source,
        "split": data.split,
        "examples": len(data),
        "shape": list(data.shape),
        "classes": counts,
    } | known


@facts.register
def _(verdict: Verdict) -> dict[str, Any]:
    held = verdict.count(DROP, FIX)
    counts = {act: verdict.count(code) for code, act in enumerate(ACTS)}
    estimate = dict(zip(("wrong_estimate", "wrong_low", "wrong_high"), verdict.wrong, strict=True))
    return {"suspects": held, "suspect_share": held / len(verdict.act), "acts": counts, "by": verdict.by} | estimate


@facts.register
def _(scores: Scores) -> dict[str, Any]:
    worst = scores.values.argsort(descending=True, stable=True)[:20]
    return {
        "name": scores.name,
        "examples": len(scores.values),
        "most_suspect_rows": worst.tolist(),
        "their_scores": [round(x, 5) for x in scores.values[worst].tolist()],
    }


@facts.register
def _(links: Links) -> dict[str, Any]:
    wanted = ("link", "of", "seconds", "index", "weights", "effective_dimension")
    known = {name: links.facts[name] for name in wanted if name in links.facts}
    places = {"links": str(links.path), "picture": str(explained.picture_of(links))}
    return known | places | {"queries": len(links.queries), "explained": explained.shown(links)}


@facts.register
def _(comparison: Comparison) -> dict[str, Any]:
    return comparison.to_json() | {"sentence": comparison.sentence}


@facts.register
def _(estimate: Estimate) -> dict[str, Any]:
    return {
        "minutes": estimate.minutes,
        "memory_bytes": estimate.memory,
        "disk_bytes": estimate.disk,
        "sentence": str(estimate),
    }


@facts.register
def _(path: Path) -> dict[str, Any]:
    return {"path": str(path)}


def text(result: Any, known: dict[str, Any]) -> str:
    """The result for a person."""
    if isinstance(result, Run):
        return result.card.rstrip("\n")
    if isinstance(result, Path):
        return str(result)
    if isinstance(result, Links):
        return told(known)
    if "sentence" in known:
        table = [part for name in ("runs", "means") if name in known for part in (nested(known[name]), "")]
        return "\n".join([*table, known["sentence"]])
    if known and all(isinstance(value, dict) for value in known.values()):
        return nested(known)
    return "\n".join(f"{name:<20} {value}" for name, value in known.items())


def told(known: dict[str, Any]) -> str:
    """Each query's answer and its strongest for and against, then where the picture is."""
    lines = []
    for entry in known["explained"]:
        lines.append(f"{entry['query']}: {entry['label']} (the model says {entry['predicted']}, {entry['chance']:.0%})")
        for way, word in (("for", "towards"), ("against", "away")):
            each = ", ".join(f"{e['name']} [{e['label']}] {e['score']:+.3g}" for e in entry[way][:4])
            lines.append(f"  {word:<8} {each or 'none'}")
    if "index" in known:
        i = known["index"]
        lines.append(
            f"answered in {known['seconds']:.2f} s from the index; on a sample of {i['queries']} queries x {i['rows']} rows it agrees with the full "
            f"scores to Spearman {i['spearman']:.3f}, and holds {i['top10_before']:.0%} of the exact top 10, {i['top10_after']:.0%} after ranking again"
        )
    elif "effective_dimension" in known:
        lines.append(f"effective dimension {known['effective_dimension']:,.0f} of {known['weights']:,} weights")
    return "\n".join([*lines, f"picture  {known['picture']}"])


def nested(known: dict[str, dict[str, Any]]) -> str:
    """A table of tables: a row each where the inner names agree and are numbers, a block each elsewhere."""
    inner = [tuple(row) for row in known.values()]
    cells = {name: {key: cell(value) for key, value in row.items()} for name, row in known.items()}
    if all(text is not None for row in cells.values() for text in row.values()) and len(set(inner)) == 1:
        wide = max(map(len, known)) + 2
        columns = {key: max(10, len(key), *(len(row[key] or "") for row in cells.values())) + 2 for key in inner[0]}
        lines = [" " * wide + "".join(f"{name:>{columns[name]}}" for name in inner[0])]
        return "\n".join(
            [
                *lines,
                *(
                    f"{name:<{wide}}" + "".join(f"{text:>{columns[key]}}" for key, text in row.items())
                    for name, row in cells.items()
                ),
            ]
        )
    return "\n\n".join(
        f"{name}\n" + "\n".join(f"  {key:<{max(16, *map(len, row))}} {value}" for key, value in row.items())
        for name, row in known.items()
    )


def cell(value: Any) -> str | None:
    """A number, a mean with its standard deviation, or nothing where there is none to tell; None for anything else."""
    if isinstance(value, dict) and set(value) == {"mean", "sd"}:
        return f"{value['mean']:.4f} ± {value['sd']:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else None
