"""Suspects that an earlier audit did not have: what a change to a set has brought."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from datablame.base import readers
from datablame.base.errors import InputError

SUSPECT = ("fix", "drop")
NAMED = 5
"""New suspects that are named."""


@dataclass(frozen=True)
class Baseline:
    """(name, given class) of the suspects of an audit."""

    suspects: set[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Baseline:
        """Of a run, or of its `examples.parquet`. Raises InputError where there is neither, or the
        run was not judged.
        """
        table = path / "examples.parquet" if path.is_dir() else path
        if not table.is_file():
            raise InputError(
                f"there is no {table} to compare with; it is the examples.parquet of an earlier "
                "audit"
            )
        wanted = {name: "string" for name in ("name", "given_name", "act")}
        rows = readers.read_table(table, **wanted).select(list(wanted)).to_pydict()
        every = zip(rows["name"], rows["given_name"], rows["act"], strict=True)
        return cls({(name, given) for name, given, act in every if act in SUSPECT})

    def fresh(self, table: Path) -> list[str]:
        """Names of the suspects of another table that are none here, or have another label here."""
        return sorted(name for name, _ in Baseline.read(table).suspects - self.suspects)


def told(fresh: list[str]) -> str:
    """The new suspects, as the last line of a card."""
    more = f" and {len(fresh) - NAMED:,} more" if len(fresh) > NAMED else ""
    names = f": {', '.join(fresh[:NAMED])}{more}" if fresh else ""
    return f"new        {len(fresh):,} suspects that the baseline has not{names}"
