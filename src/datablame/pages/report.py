"""report.html: one self-contained page that one would show a colleague."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from datablame.base import files
from datablame.base.errors import InputError, unknown
from datablame.exchange import tables
from datablame.pages import sections
from datablame.pages.figures import ASKED, DATED, KINDS
from datablame.pages.templating import policy, rendered, script
from datablame.run import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(run: Run, paper: bool = False) -> Path:
    """Ask every section for its part, and put those that have something to say on one page; the
    table beside it is written anew, as people may have decided since. For a `paper` figures are
    written as SVG and PDF, too, which takes twice as long.
    """
    if run.verdict is not None and run.verdict.decided is not None:
        tables.examples(run, run.verdict)
    mark = KINDS.set(tuple(DATED) if paper else ("png",))
    try:
        every = [getattr(module, name)(run) for name, module in _sections().items()]
    finally:
        KINDS.reset(mark)
    parts = [part for part in every if part]
    parts.sort(key=lambda part: part.place)
    page = rendered(
        "report",
        run=run,
        sections=parts,
        policy=policy(),
        script=script() if any("<script" in part.html for part in parts) else None,
    )
    return files.write_text(run.path / "report.html", page)


def _sections() -> dict[str, ModuleType]:
    names = sorted(found.name for found in pkgutil.iter_modules(sections.__path__))
    return {name: importlib.import_module(f"{sections.__name__}.{name}") for name in names}


def figures(run: Run, names: Sequence[str] = ()) -> dict[str, Figure]:
    """The report's figures, or those of these names and of names that go on from them, as they are
    drawn there; nothing is written. A section declares in FIGURES what it draws.

    Raises InputError for a name that there is not, or that this run has nothing to draw for.
    """
    every = {
        kind: (name, module)
        for name, module in _sections().items()
        for kind in getattr(module, "FIGURES", ())
    }
    if strange := [name for name in names if name not in every]:
        raise unknown("figure", strange[0], every)
    found: dict[str, Figure] = {}
    mark = ASKED.set(found)
    try:
        for name, module in dict(every[kind] for kind in names or every).items():
            getattr(module, name)(run)
    finally:
        ASKED.reset(mark)
    wanted: dict[str, Figure] = {}
    for name in names or ("",):
        some = {kind: page for kind, page in found.items() if kind.startswith(name)}
        if name and not some:
            there = ", ".join(sorted(figures(run))) or "none"
            raise InputError(f"{run.path} has no figure '{name}'; it has: {there}")
        wanted |= some
    return wanted
