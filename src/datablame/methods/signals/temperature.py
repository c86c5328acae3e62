"""Data parameters: the temperature that was learned for an example.

Saxena, Tuzel, DeCoste, 2019.

Formula: `log s_n(t)`.
When: the run was trained with `--trainer data_parameters`.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.dynamics.temperature_curves import after
from datablame.run import Run


def temperature(run: Run, epoch: int = 0) -> Float[Tensor, " N"]:
    """The logarithm of the temperature after an epoch, counted from 1; 0: the last.

    Of a run that was trained with --trainer data_parameters.
    """
    return after(run, epoch)
