"""Entropy of the prediction, whatever the label: the model's doubt. Shannon, 1948.

When: a doubtful picture is to be told from a wrong label: it does not look at the label.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run


def entropy(run: Run, since: float = 0.0) -> Float[Tensor, " N"]:
    """Mean over epochs of `-sum_k p_k log p_k`: marks hard images rather than wrong labels, so it
    helps to tell them apart.
    """
    return run.trace.reduce("entropy", lambda h: h.mean(0), since)
