"""Area under the margin. Pleiss et al., 2020. arXiv:2001.10528

When: a net is trained from scratch: ahead of the other plain formulas on its trace here, at no
further cost. Take `since=0.5` unless the net has learned the wrong labels by its second half.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run


def aum(run: Run, since: float = 0.0) -> Float[Tensor, " N"]:
    """Minus the mean over epochs of `z_y - max_{k != y} z_k`; `since=0.5` leaves out the first half
    of training.
    """
    return -run.trace.reduce("margin", lambda m: m.mean(0), since)
