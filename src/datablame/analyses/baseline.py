"""Suspects that an earlier audit did not have: what a change to a set has brought."""

from __future__ import annotations

from pathlib import Path

from datablame.base import readers
from datablame.base.errors import InputError

SUSPECT = ("fix", "drop")


def suspects(path: Path) -> set[tuple[str, str]]:
    """(name, given class) of the suspects of a run, or of its `examples.parquet`.

    Raises InputError where there is neither, or the run was not judged.
    """
    table = path / "examples.parquet" if path.is_dir() else path
    if not table.is_file():
        raise InputError(
            f"there is no {table} to compare with; it is the examples.parquet of an earlier audit"
        )
    wanted = {name: "string" for name in ("name", "given_name", "act")}
    rows = readers.read_table(table, **wanted).select(list(wanted)).to_pydict()
    every = zip(rows["name"], rows["given_name"], rows["act"], strict=True)
    return {(name, given) for name, given, act in every if act in SUSPECT}


def fresh(table: Path, baseline: set[tuple[str, str]]) -> list[str]:
    """Names of the suspects of a table that are not in the baseline with the same label."""
    return sorted(name for name, _ in suspects(table) - baseline)
