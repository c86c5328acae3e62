"""Tables on disk: Parquet that says it is ours, CSV that is safe in a spreadsheet."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datablame.base import files
from datablame.base.errors import InputError
from datablame.base.readers import FORMULA


def compute() -> Any:
    """pyarrow.compute, whose functions are made at run time, where no type checker sees them."""
    import pyarrow.compute

    return pyarrow.compute


def write_csv(path: Path, columns: dict[str, Any]) -> Path:
    """A CSV file of named columns, safe in a spreadsheet."""
    return files.write_bytes(path, spreadsheet(columns))


def write_any(path: Path, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Rows as a CSV file, if there are any; where there are none, there is no such file."""
    if not rows:
        files.remove(path)
        return
    write_csv(path, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def spreadsheet(columns: dict[str, Any]) -> bytes:
    """A CSV that is safe to open in a spreadsheet: text that would start a formula gets a quote
    before it.
    """
    import pyarrow as pa
    from pyarrow import csv

    pc = compute()

    def harmless(column: pa.ChunkedArray) -> pa.ChunkedArray:
        if not pa.types.is_string(column.type):
            return column
        risky = pc.match_substring_regex(column, f"^{FORMULA}")
        return pc.if_else(risky, pc.binary_join_element_wise("'", column, ""), column)

    table = pa.table(columns)
    file = io.BytesIO()
    csv.write_csv(
        pa.table([harmless(column) for column in table.columns], table.column_names), file
    )
    return file.getvalue()


def write(path: Path, columns: dict[str, Any]) -> Path:
    """A Parquet file of named columns."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(columns).replace_schema_metadata({files.MARK: "a table"})
    return files.write(path, lambda part: parquet.write_table(table, part))


def write_several(path: Path, tables: Iterable[Any]) -> Path:
    """A Parquet file of pyarrow tables of one schema, one after the other."""
    return files.write(path, lambda part: pour(part, tables))


def pour(file: Path, tables: Iterable[Any]) -> None:
    """`write_several` into a file that is being made."""
    from pyarrow import parquet

    first = next(whole := iter(tables), None)
    if first is None:
        raise InputError("there are no rows")
    schema = first.schema.with_metadata((first.schema.metadata or {}) | {files.MARK: "a set"})
    with parquet.ParquetWriter(file, schema) as writer:
        for table in itertools.chain([first], whole):
            writer.write_table(table.cast(schema))
