"""The table of floors in docs/design.md, which the laws and the shape checks read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1] / "src" / "datablame"
DESIGN = Path(__file__).parents[1] / "docs" / "design.md"


def floors() -> dict[str, int]:
    """The floor of each folder, room of methods, and file at the top."""
    table = re.search(r"```floors\n(.*?)```", DESIGN.read_text(encoding="utf-8"), re.DOTALL)
    assert table
    lines = [re.split(r"\s{2,}", line)[0] for line in table[1].splitlines()]
    return {name: floor for floor, line in enumerate(lines) for name in line.split()}


def home(parts) -> str:
    """Where a file or module of the package belongs: a folder, a room, or a file at the top."""
    return "/".join(parts[: 2 if parts[0] == "methods" else 1])
