"""Dataset cartography. Swayamdipta et al., 2020. arXiv:2009.10795

Formula: `1 - mean_t p_y(t)`.
When: easy, ambiguous and hard examples are to be told apart, with `statistic=variability` as the
other axis of the map.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float
from datablame.run import Run


def PROBABILITY(statistic: str = "confidence", **_: str) -> bool:  # noqa: N802 - a declaration
    """One minus the mean probability is a probability; its standard deviation is not."""
    return statistic == "confidence"


def datamap(run: Run, statistic: str = "confidence", since: float = 0.0) -> Float[Tensor, " N"]:
    """One minus the mean of the label's probability over epochs; `statistic=variability`: its
    standard deviation (ambiguous examples).
    """
    if statistic == "confidence":
        return 1 - run.trace.reduce("loss", lambda loss: (-loss).exp().mean(0), since)
    if statistic == "variability":
        return run.trace.reduce("loss", lambda loss: (-loss).exp().std(0, correction=0), since)
    raise unknown("statistic of datamap", statistic, ("confidence", "variability"))
