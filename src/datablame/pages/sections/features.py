"""A map of the encoder's features: alike lies close, suspects stand out of their class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.analyses.evidence import Evidence
from datablame.base import hashing
from datablame.base.shapes import Int
from datablame.dynamics.groups import flat_map
from datablame.pages.classes import COLUMNS, SMALL
from datablame.pages.figures import BLUE, GREEN, ORANGE, RED, Section, as_data, encoded, packed
from datablame.pages.templating import rendered
from datablame.run import Run
from datablame.verdict import ACTS, ASK, DROP, FIX

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
    chosen = _chosen(run, rows)
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
        "texts": [_said(run, row) for row in shown],
        "names": [run.data.name(row) for row in shown],
    }
    sheet = as_data(encoded(_sheet(run, shown), "jpeg"), "jpeg")
    html = rendered("features", facts=facts, atlas=sheet, shown=len(shown), total=len(run.data))
    return Section("Map of features", html, 29)


def _chosen(run: Run, rows: Int[Tensor, " n"]) -> Int[Tensor, " p"]:
    """Places of the images that are shown: the most suspect, and others drawn by lot."""
    assert run.verdict is not None
    where = torch.full((len(run.data),), -1)
    where[rows] = torch.arange(len(rows))
    worst = where[run.verdict.suspects]
    worst = worst[worst >= 0][:SUSPECTS]
    drawn = hashing.permutation(len(rows), "map")
    rest = drawn[~torch.isin(drawn, worst)][: POINTS - len(worst)]
    return torch.cat([worst, rest])


def _said(run: Run, row: int) -> str:
    assert run.verdict is not None
    data, proposed = run.data, int(run.verdict.proposed[row])
    given = data.classes[int(data.labels[row])]
    to = f", proposed {data.classes[proposed]}" if proposed >= 0 else ""
    return f"{data.name(row)}: given as {given}{to}; {ACTS[int(run.verdict.act[row])]}"


def _sheet(run: Run, rows: list[int]) -> Any:
    """Small pictures side by side, COLUMNS a line."""
    from PIL import Image

    whole = Image.new("RGB", (COLUMNS * SMALL, -(-len(rows) // COLUMNS) * SMALL), "black")
    for turn, row in enumerate(rows):
        image = packed(run.data, row, SMALL)
        whole.paste(image, (turn % COLUMNS * SMALL, turn // COLUMNS * SMALL))
    return whole
