"""Several runs side by side: what each found, and which images they agree about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from datablame.base import files
from datablame.base.errors import InputError
from datablame.base.shapes import Bool
from datablame.pages.figures import Section
from datablame.pages.gallery import tile
from datablame.pages.templating import policy, rendered, script
from datablame.run import Run
from datablame.verdict import DROP, FIX

SHOWN = 32
"""Images of each kind."""
NAME = "compared.html"


def write(runs: Sequence[Run]) -> Path:
    """compared.html in the folder of the first run.

    Raises InputError where one of them is not judged.
    """
    for run in runs:
        if run.verdict is None:
            raise InputError(f"{run.path} is not judged yet: datablame judge {run.path}")
    names = _names(runs)
    rows = [_facts(name, run) for name, run in zip(names, runs, strict=True)]
    parts = [Section("Runs", rendered("compared", rows=rows, pairs=_pairs(names, runs)), 0)]
    parts += _pictures(names, runs)
    page = rendered("report", run=runs[0], sections=parts, policy=policy(), script=script())
    return files.write_text(runs[0].path / NAME, page)


def _names(runs: Sequence[Run]) -> list[str]:
    """Of folders, with those above them where two are called alike."""
    short = [run.path.name for run in runs]
    return short if len(set(short)) == len(short) else [str(run.path) for run in runs]


def _facts(name: str, run: Run) -> dict[str, Any]:
    """What the table says of a run."""
    facts = run.to_json()
    measures = run.measures
    low, high = facts["wrong_low"], facts["wrong_high"]
    told = f"{facts['wrong_estimate']:,.0f} ({low:,.0f} to {high:,.0f})"
    return {
        "name": name,
        "data": repr(run.data),
        "model": f"{run.recipe.model}, {run.recipe.trainer}, {run.recipe.epochs} epochs",
        "by": facts["by"],
        "suspects": facts["suspects"],
        "estimate": told if facts["wrong_told"] else f"at most {high:,.0f}",
        "precision": measures and measures.get("average_precision"),
        "cleaning": run.comparison["sentence"] if run.comparison else "not retrained",
    }


def _suspects(run: Run) -> Bool[torch.Tensor, " N"]:
    return torch.isin(run.judged.act, torch.tensor([DROP, FIX]))


def _pairs(names: Sequence[str], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Of each two runs on the same images, how many suspects they have in common."""
    found = []
    for i, one in enumerate(runs):
        for j in range(i + 1, len(runs)):
            other = runs[j]
            if one.data.names.equals(other.data.names):
                first, second = _suspects(one), _suspects(other)
                parts = {"both": first & second, "either": first | second}
                parts |= {"first": first & ~second, "second": second & ~first}
                counts = {name: int(part.sum()) for name, part in parts.items()}
                found.append({"one": names[i], "other": names[j]} | counts)
    return found


def _pictures(names: Sequence[str], runs: Sequence[Run]) -> list[Section]:
    """The images that all name, and those that one alone does, the most suspect first."""
    data = runs[0].data
    if not data.drawn or not all(run.data.names.equals(data.names) for run in runs):
        return []
    every = torch.stack([_suspects(run) for run in runs])
    count = every.sum(0)
    kinds = [("All name these", count == len(runs), 0)]
    kinds += [
        (f"{name} alone names these", every[place] & (count == 1), place)
        for place, name in enumerate(names)
    ]
    parts = []
    for place, (title, rows, of) in enumerate(kinds, 1):
        verdict = runs[of].judged
        order = verdict.suspicion.argsort(descending=True, stable=True)
        some = order[rows[order]]
        tiles = [tile(data, verdict, row) for row in some[:SHOWN].tolist()]
        if tiles:
            said = f"{title}: {len(tiles):,} of {len(some):,}"
            parts.append(Section(said, rendered("tiles", tiles=tiles), place))
    return parts
