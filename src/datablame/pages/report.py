"""report.html: one self-contained page that one would show a colleague."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from datablame.base import files
from datablame.exchange import tables
from datablame.pages import sections
from datablame.pages.templating import policy, rendered, script
from datablame.run import Run


def write(run: Run) -> Path:
    """Ask every section for its part, and put those that have something to say on one page; the
    table beside it is written anew, as people may have decided since.
    """
    if run.verdict is not None and run.verdict.decided is not None:
        tables.examples(run, run.verdict)
    names = sorted(found.name for found in pkgutil.iter_modules(sections.__path__))
    every = (
        getattr(importlib.import_module(f"{sections.__name__}.{name}"), name) for name in names
    )
    parts = [part for section in every if (part := section(run))]
    parts.sort(key=lambda part: part.place)
    page = rendered(
        "report",
        run=run,
        sections=parts,
        policy=policy(),
        script=script() if any("<script" in part.html for part in parts) else None,
    )
    return files.write_text(run.path / "report.html", page)
