"""Dataset cartography. Swayamdipta et al., 2020. arXiv:2009.10795"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.ground.errors import unknown
from datablame.run import Run


def datamap(run: Run, of: str = "confidence", since: float = 0.0) -> Float[Tensor, " N"]:
    """One minus the mean of the label's probability over epochs; `of=variability`: its standard deviation (ambiguous examples)."""
    if of == "confidence":
        return 1 - run.trace.reduce("loss", lambda loss: (-loss).exp().mean(0), since)
    if of == "variability":
        return run.trace.reduce("loss", lambda loss: (-loss).exp().std(0, correction=0), since)
    raise unknown("coordinate of datamap", of, ("confidence", "variability"))
