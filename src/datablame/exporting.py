"""Exporting: tables of examples, for other tools and for spreadsheets. The user's own files are never touched."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame import recording
from datablame.dataset import Dataset
from datablame.ground import store
from datablame.ground.errors import InputError
from datablame.run import Run
from datablame.verdict import ACTS, Verdict

GROUP = 2048
"""Rows of a Parquet file written at a time."""


def columns(run: Run, verdict: Verdict) -> dict[str, Any]:
    """One row an example: names, labels by number and by name, every signal, rank, act, and by whom.

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
        "chance": verdict.chance.numpy(),
        "act": np.array(ACTS)[verdict.act],
        "by": [verdict.by] * len(data),
        "rank": rank.numpy(),
    }
    if data.truth is not None:
        table |= {"truth": data.truth.numpy(), "truth_name": classes[data.truth]}
    for path in sorted((run.path / "scores").glob("*.npy")):
        table[f"suspicion.{path.stem}"] = np.load(path)
    return table


def examples(run: Run, verdict: Verdict) -> Path:
    """examples.parquet in the run's folder."""
    return store.write_table(run.path / "examples.parquet", columns(run, verdict))


def export(run: Run, to: Path) -> Path:
    """The table as CSV or Parquet, or the trace as .npz. Raises InputError for another ending, or where the run has not been judged."""
    if to.suffix == ".npz":
        return recording.written(run, to)
    if to.suffix not in (".csv", ".parquet"):
        raise InputError(f"cannot export to '{to}': name a file that ends in .csv, .parquet or .npz")
    table = columns(run, Verdict.read(run.path / "verdict.csv", run.data))
    if to.suffix == ".parquet":
        return store.write_table(to, table)
    return store.write_csv(to, table)


def to_parquet(data: Dataset, path: Path) -> Path:
    """A set as one Parquet file in the hub's layout: image (PNG bytes), label and truth with their class names."""
    import json

    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    def png(row: int) -> bytes:
        pixels = data.images.array[data.rows[row]] if data.images else np.zeros((1, 1, 1), "uint8")
        file = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(file, "PNG")
        return file.getvalue()

    kind = {"_type": "ClassLabel", "names": list(data.classes)}
    features: dict[str, Any] = {"image": {"_type": "Image"}, "label": kind}
    whole: dict[str, Any] = {"label": data.labels.numpy()}
    if data.truth is not None:
        features["truth"], whole["truth"] = kind, data.truth.numpy()

    def part(start: int) -> pa.Table:
        rows = range(start, min(start + GROUP, len(data)))
        images = [{"bytes": png(row), "path": data.name(row)} for row in rows]
        table = pa.table({"image": images} | {name: column[rows.start : rows.stop] for name, column in whole.items()})
        return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})

    def save(file: Path) -> None:
        first = part(0)
        with parquet.ParquetWriter(file, first.schema) as writer:
            writer.write_table(first)
            for start in range(GROUP, len(data), GROUP):
                writer.write_table(part(start))

    return store.write(path, save)
