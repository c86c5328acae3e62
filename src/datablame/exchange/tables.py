"""Tables of examples, for other tools and for spreadsheets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.base import files, readers, tables
from datablame.base.errors import InputError, unknown
from datablame.exchange import cleanlab, dynamics, huggingface
from datablame.exchange.sets import to_folders
from datablame.run import Run
from datablame.scores import name_of
from datablame.verdict import ACTS, Verdict

FORMS = {"cleanlab": cleanlab.export, "huggingface": huggingface.export}
"""What writes a run in the form of another tool."""


def _columns(run: Run, verdict: Verdict) -> dict[str, Any]:
    """One row an example: names, labels by number and by name, every signal, rank, act, and by
    whom.

    `suspicion.*` columns are high where an example is suspect. `rank` 1 is the most suspect.
    """
    data, classes = run.data, np.array([*run.data.classes, ""])
    rank = torch.empty(len(data), dtype=torch.long)
    rank[verdict.suspicion.argsort(descending=True, stable=True)] = torch.arange(1, len(data) + 1)
    table: dict[str, Any] = {
        "name": data.names,
        "split": [data.split] * len(data),
        "given": data.labels.numpy(),
        "given_name": classes[data.labels],
        "proposed": verdict.proposed.numpy(),
        "proposed_name": classes[verdict.proposed],
        "probability": verdict.probability.numpy(),
        "act": np.array(ACTS)[verdict.act],
        "by": verdict.by_each(torch.arange(len(data))),
        "rank": rank.numpy(),
    }
    if verdict.p_wrong is not None:
        table["p_wrong"] = verdict.p_wrong.numpy()
    if data.truth is not None:
        table |= {"truth": data.truth.numpy(), "truth_name": classes[data.truth]}
    for path in sorted((run.path / "scores").glob("*.npy")):
        table[f"suspicion.{name_of(path)}"] = readers.read_array(path, (len(data),), "f")
    return table


def examples(run: Run, verdict: Verdict) -> Path:
    """examples.parquet in the run's folder."""
    return tables.write(run.path / "examples.parquet", _columns(run, verdict))


def export(run: Run, to: Path, form: str | None = None) -> Path:
    """The table as CSV or Parquet, the trace as .npz, the set as class folders; or in the form of
    another tool. Raises InputError for another ending, or where the run has not been judged and a
    table is asked."""
    files.refuse_foreign(to, run.data.closed)
    if form is not None:
        if form not in FORMS:
            raise unknown("form", form, FORMS)
        return FORMS[form](run, to)
    if to.suffix == ".npz":
        return dynamics.exported(run, to)
    if not to.suffix:
        return to_folders(run.data, to)
    if to.suffix not in (".csv", ".parquet"):
        raise InputError(
            f"cannot export to '{to}': name a file that ends in .csv, .parquet or .npz, or "
            "a folder, without an ending"
        )
    table = _columns(run, run.judged)
    if to.suffix == ".parquet":
        return tables.write(to, table)
    return tables.write_csv(to, table)
