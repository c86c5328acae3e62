"""Norm of the loss's gradient. Paul, Ganguli, Dziugaite, 2021 (GraNd). arXiv:2107.07075

When: self-influence takes too long: it needs no curvature, and finds somewhat less.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.influence import factors
from datablame.influence.fisher import Fisher
from datablame.run import Run


def gradnorm(run: Run, layers: str = "*") -> Float[Tensor, " N"]:
    """`|g|` over the tracked layers of the trained model: self-influence without curvature."""
    return factors.squares(run, Fisher(kind="identity", layers=layers)).sqrt()
