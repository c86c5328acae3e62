"""Data parameters: the temperature that was learned for an example. Saxena, Tuzel, DeCoste, 2019."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.ground.errors import InputError
from datablame.run import Run


def sigma(run: Run, epoch: int = 0) -> Float[Tensor, " N"]:
    """The logarithm of the temperature after an epoch, counted from 1; 0: the last. Of a run that was trained with --trainer temper."""
    if not 0 <= epoch <= run.trace.epochs:
        raise InputError(f"epoch {epoch} was not recorded; {run.path} has 1 to {run.trace.epochs}")
    return run.trace.at("sigma", epoch - 1 if epoch else run.trace.epochs - 1).log()
