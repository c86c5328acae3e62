"""Forgetting events. Toneva et al., 2019. arXiv:1812.05159

Formula: `#{t: right at t, wrong at t + 1}`.
When: examples are looked for that training could do without: those never forgotten. For wrong
labels others are ahead.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run


def forgetting(run: Run) -> Float[Tensor, " N"]:
    """How often an example goes from right to wrong; one never right counts as forgotten at every
    epoch.
    """

    def events(margin: Float[Tensor, "T n"]) -> Float[Tensor, " n"]:
        right = margin > 0
        forgotten = (right[:-1] & ~right[1:]).sum(0).float()
        return torch.where(right.any(0), forgotten, float(len(right)))

    return run.trace.reduce("margin", events)
