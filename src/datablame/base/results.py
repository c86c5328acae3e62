"""What verbs return: an object that a person reads, a program takes as JSON, and a notebook shows
with its pictures.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datablame.base.errors import InputError

if TYPE_CHECKING:
    import pandas


class Result(ABC):
    """The result of a verb.

    `print(result)` is what the command line prints, `to_json()` what it gives with --json.
    """

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Plain values under stable names."""

    def __getitem__(self, name: Any) -> Any:
        """An entry of `to_json`."""
        return self.to_json()[name]

    __iter__ = None  # a result is no sequence: iterate over `to_json()`

    def columns(self) -> dict[str, Any]:
        """The table behind `to_pandas`, a column each; by default one row of `to_json`."""
        return {name: [value] for name, value in self.to_json().items()}

    def pictures(self) -> list[Path]:
        """The picture files that were drawn for this result."""
        return []

    def to_pandas(self) -> pandas.DataFrame:
        """The result as a table. Raises InputError where pandas is not installed."""
        try:
            import pandas
        except ImportError:
            raise InputError("to_pandas needs pandas: pip install pandas") from None
        return pandas.DataFrame(self.columns())

    def __str__(self) -> str:
        return text(self.to_json())

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """Text and pictures, for notebooks."""
        import base64

        drawn = [path.read_bytes() for path in self.pictures() if path.exists()]
        images = (base64.b64encode(data).decode() for data in drawn)
        return f"<pre>{escape(str(self))}</pre>" + "".join(
            f'<img style="max-width:100%" src="data:image/png;base64,{image}">' for image in images
        )


def text(known: dict[str, Any]) -> str:
    """Facts for a person: a table where all are tables, else a line each."""
    if known and all(isinstance(value, dict) for value in known.values()):
        return table(known)
    return "\n".join(f"{name:<20} {value}" for name, value in known.items())


def table(known: dict[str, dict[str, Any]]) -> str:
    """A row for each entry where all have the same numbers; a block for each elsewhere."""
    inner = [tuple(row) for row in known.values()]
    cells = {name: {key: _cell(value) for key, value in row.items()} for name, row in known.items()}
    plain = all(value is not None for row in cells.values() for value in row.values())
    if plain and len(set(inner)) == 1:
        wide = max(map(len, known)) + 2
        columns = {
            key: max(10, len(key), *(len(row[key] or "") for row in cells.values())) + 2
            for key in inner[0]
        }
        lines = [" " * wide + "".join(f"{name:>{columns[name]}}" for name in inner[0])]
        for name, row in cells.items():
            lines.append(
                f"{name:<{wide}}"
                + "".join(f"{value:>{columns[key]}}" for key, value in row.items())
            )
        return "\n".join(lines)
    blocks = (
        f"{name}\n"
        + "\n".join(f"  {key:<{max(16, *map(len, row))}} {value}" for key, value in row.items())
        for name, row in known.items()
    )
    return "\n\n".join(blocks)


def _cell(value: Any) -> str | None:
    """A number, a mean with its standard deviation, or `-` for None; None for anything that is no
    number.
    """
    if isinstance(value, dict) and set(value) == {"mean", "sd"}:
        return f"{value['mean']:.4f} ± {value['sd']:.4f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if isinstance(value, float) else "-" if value is None else None
