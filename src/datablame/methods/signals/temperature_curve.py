"""Data parameters: the shape of an example's curve of temperatures.

After Saxena, Tuzel, DeCoste, 2019, as used for enriching data sets.

Formula: `mean_t log s_n(t) - median`.
When: the run was trained with `--trainer data_parameters`, and images that were learned late are
not to be taken for wrong.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float
from datablame.dynamics.temperature_curves import shape
from datablame.run import Run


def temperature_curve(run: Run, statistic: str = "mean") -> Float[Tensor, " N"]:
    """Log temperature minus the median of the class: its mean over all epochs, its `peak`, or its
    `fall`.

    `statistic=fall` is how far the curve came down from its peak to its end, which is far for
    images that were learned late. For a run trained with `--trainer data_parameters`.
    """
    found = shape(run)
    values = {"mean": found.mean, "peak": found.peak, "fall": found.peak - found.end}
    if statistic not in values:
        raise unknown("statistic of a temperature curve", statistic, values)
    return values[statistic]
