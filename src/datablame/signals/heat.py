"""Data parameters: the shape of an example's curve of temperatures. After Saxena, Tuzel, DeCoste, 2019, as used for enriching data sets."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.evidence.curves import shape
from datablame.ground.errors import unknown
from datablame.run import Run


def heat(run: Run, of: str = "mean") -> Float[Tensor, " N"]:
    """Logarithm of temperature beside the median of the class, over all epochs; `of=peak`: its highest point; `of=cooling`: how far it fell from there
    to the end, which is far for images that were learned late. Of a run that was trained with --trainer temper."""
    found = shape(run)
    if of == "mean":
        return found.mean
    if of == "peak":
        return found.peak
    if of == "cooling":
        return found.peak - found.end
    raise unknown("part of a curve", of, ("mean", "peak", "cooling"))
