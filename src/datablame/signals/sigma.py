"""Data parameters: the temperature that was learned for an example. Saxena, Tuzel, DeCoste, 2019."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.evidence.curves import after
from datablame.run import Run


def sigma(run: Run, epoch: int = 0) -> Float[Tensor, " N"]:
    """The logarithm of the temperature after an epoch, counted from 1; 0: the last. Of a run that was trained with --trainer temper."""
    return after(run, epoch)
