"""A map of the encoder's features: alike lies close, suspects stand out of their class."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.analyses.evidence import Evidence
from datablame.base import hashing
from datablame.base.shapes import Int
from datablame.dataset import Dataset
from datablame.dynamics.groups import flat_map
from datablame.pages.contact_sheet import COLUMNS, SMALL, atlas
from datablame.pages.figures import BLUE, GREEN, ORANGE, RED, Section, as_data, encoded
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import ACTS, ASK, DROP, FIX, Verdict

POINTS, SUSPECTS, STEPS = 300, 150, 300
"""Images on the map, how many of them at most are suspects, and steps that place them."""
FEW = 50
"""Images below which there is no map."""
COLOURS = {"keep": BLUE, "ask": ORANGE, "drop": RED, "fix": GREEN}


def features(run: Run) -> Section | None:
    """Images at their places, coloured by the verdict; a pointer shows one large, and a line drawn
    about some lists their names.
    """
    verdict = run.verdict
    if verdict is None or not run.data.drawn:
        return None
    found = Evidence(run).space()
    if found is None or len(found[1]) < FEW:
        return None
    space, rows = found
    chosen = _chosen(verdict, rows, len(run.data))
    at = flat_map(space[chosen].numpy(), STEPS)
    act = verdict.act[rows[chosen]]
    order = torch.isin(act, torch.tensor([ASK, DROP, FIX])).int().argsort(stable=True)
    chosen, at = chosen[order], at[order.numpy()]
    low, high = at.min(0), at.max(0)
    shown = rows[chosen].tolist()
    facts = {
        "columns": COLUMNS,
        "side": SMALL,
        "colours": list(COLOURS.values()),
        "kinds": [list(COLOURS).index(ACTS[int(each)]) for each in verdict.act[shown].tolist()],
        "places": ((at - low) / np.maximum(high - low, 1e-9)).round(4).tolist(),
        "texts": [_said(run.data, verdict, row) for row in shown],
        "names": [run.data.name(row) for row in shown],
    }
    sheet = as_data(encoded(atlas(run.data, shown), "jpeg"), "jpeg")
    html = rendered("features", facts=facts, atlas=sheet, shown=len(shown), total=len(run.data))
    return Section("Map of features", html, 29)


def _chosen(verdict: Verdict, rows: Int[Tensor, " n"], count: int) -> Int[Tensor, " p"]:
    """Places of the images that are shown: the most suspect, and others drawn by lot."""
    where = torch.full((count,), -1)
    where[rows] = torch.arange(len(rows))
    worst = where[verdict.suspects]
    worst = worst[worst >= 0][:SUSPECTS]
    drawn = hashing.permutation(len(rows), "map")
    rest = drawn[~torch.isin(drawn, worst)][: POINTS - len(worst)]
    return torch.cat([worst, rest])


def _said(data: Dataset, verdict: Verdict, row: int) -> str:
    """What the pointer tells of an image."""
    proposed, given = int(verdict.proposed[row]), data.classes[int(data.labels[row])]
    to = f", proposed {data.classes[proposed]}" if proposed >= 0 else ""
    return f"{data.name(row)}: given as {given}{to}; {ACTS[int(verdict.act[row])]}"
