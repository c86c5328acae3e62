"""Print the oldest allowed version of every dependency, a line each, for `make test-oldest`."""

from __future__ import annotations

import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
print(*(need.replace(">=", "==") for need in project["dependencies"]), sep="\n")
