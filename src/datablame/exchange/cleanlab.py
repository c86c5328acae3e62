"""The columns of cleanlab's Datalab, for programs that read these.
docs.cleanlab.ai/stable/cleanlab/datalab/guide/issue_type_description.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.analyses.look import TABLE
from datablame.base import readers, tables
from datablame.base.errors import InputError
from datablame.run import Run
from datablame.verdict import DROP, FIX

KINDS = {
    "outlier": "outlier",
    "dark": "dark",
    "bright": "light",
    "blurred": "blurry",
    "low_information": "low_information",
    "odd_size": "odd_size",
    "odd_shape": "odd_aspect_ratio",
}
"""What a first look calls it, and what Datalab does."""
COPIES = ("copy", "conflict")


def export(run: Run, to: Path) -> Path:
    """A row an example: `is_label_issue`, `label_score` (low where the label is likely wrong),
    `given_label`, `predicted_label`, and what a first look found. Raises InputError where the run
    has not been judged.
    """
    if to.suffix not in (".csv", ".parquet"):
        raise InputError(f"cannot write cleanlab's columns to '{to}': name a .csv or .parquet file")
    data, verdict = run.data, run.judged
    rank = verdict.suspicion.argsort(descending=True, stable=True)
    place = torch.empty(len(data)).index_copy_(0, rank, torch.arange(len(data)).float())
    p = verdict.p_wrong
    score = (place + 1) / len(data) if p is None else 1 - p
    classes = np.array(data.classes, object)
    table: dict[str, Any] = {
        "name": data.names,
        "is_label_issue": ((verdict.act == DROP) | (verdict.act == FIX)).numpy(),
        "label_score": score.numpy().astype("f4"),
        "given_label": classes[data.labels.numpy()].astype(str),
        "predicted_label": classes[verdict.proposed.numpy()].astype(str),
    }
    return (tables.write if to.suffix == ".parquet" else tables.write_csv)(to, table | _looked(run))


def _looked(run: Run) -> dict[str, Any]:
    """What a first look found of the same examples; nothing without one."""
    if not (path := run.path / TABLE).exists():
        return {}
    found = readers.read_table(path, split="string", name="string", issues="string", copy_of="int")
    mine = np.array(found["split"].to_pylist()) == run.data.split
    said = [set(filter(None, text.split(", "))) for text in found["issues"].to_pylist()]
    if found["name"].filter(mine).to_pylist() != run.data.names.to_pylist():
        return {}
    said = [each for each, own in zip(said, mine, strict=True) if own]
    groups = found["copy_of"].to_numpy()[mine]
    rows: dict[int, list[int]] = {}
    for row, first in enumerate(groups.tolist()):
        rows.setdefault(first, []).append(row)
    sets = [[r for r in rows[g] if r != k] if g >= 0 else [] for k, g in enumerate(groups.tolist())]
    columns: dict[str, Any] = {
        "is_near_duplicate_issue": np.array([bool(each) for each in sets]),
        "near_duplicate_sets": [" ".join(map(str, each)) for each in sets],
    }
    for ours, theirs in KINDS.items():
        columns[f"is_{theirs}_issue"] = np.array([ours in each for each in said])
    return columns
