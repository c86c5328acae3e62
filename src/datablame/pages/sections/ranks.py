"""How the scores agree with each other."""

from __future__ import annotations

import torch

from datablame.analyses.evidence import Evidence
from datablame.pages.figures import Section
from datablame.pages.templating import rendered
from datablame.run import Run

SHOWN = 12
"""Scores that are compared."""


def ranks(run: Run) -> Section | None:
    """Of each two scores, the correlation of their ranks, and the share of the most suspect that
    they have in common: as many as the verdict has suspects, a tenth where it has none.
    """
    order = dict(list(Evidence(run).order.items())[:SHOWN])
    if len(order) < 2:
        return None
    n = len(run.data)
    most = len(run.verdict.suspects) if run.verdict is not None else 0
    most = most or max(1, n // 10)
    every = torch.stack([place.double() for place in order.values()])
    correlation = torch.corrcoef(every)
    top = (every <= most).double()
    common = top @ top.T / most
    rows = [
        (name, [(float(correlation[i, j]), float(common[i, j])) for j in range(len(order))])
        for i, name in enumerate(order)
    ]
    html = rendered("ranks", names=list(order), rows=rows, most=most)
    return Section("How the scores agree", html, 28)
