"""Cumulative sample loss. Ravikumar et al., ICML 2025.

Formula: `sum_t -log p_y(t)`.
When: a net is trained from scratch, and a label that it all but excludes should weigh more than in
`datamap`.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run


def csl(run: Run, since: float = 0.0) -> Float[Tensor, " N"]:
    """The loss summed over all epochs."""
    return run.trace.reduce("loss", lambda loss: loss.sum(0), since)
