"""Error norm. Paul, Ganguli, Dziugaite, 2021. arXiv:2107.07075

Formula: `mean_t |p(t) - e_y|`.
When: few epochs are there, or the easiest examples are to be left out.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run


def el2n(run: Run, until: float = 0.5) -> Float[Tensor, " N"]:
    """Mean of `|p - e_y|` over the early epochs, before wrong labels are learned."""
    return run.trace.reduce("el2n", lambda norm: norm.mean(0), until=until)
