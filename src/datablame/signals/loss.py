"""Cross-entropy of the given label at one epoch: the small-loss criterion. Arpit et al., 2017. arXiv:1706.05394"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.ground.errors import InputError
from datablame.run import Run


def loss(run: Run, epoch: int = -1) -> Float[Tensor, " N"]:
    """The loss at one epoch, the last unless told. At its best before the model has learned the wrong labels by heart."""
    if not -run.trace.epochs <= epoch < run.trace.epochs:
        raise InputError(f"this trace has epochs 0 to {run.trace.epochs - 1}; epoch {epoch} was asked")
    return run.trace.at("loss", epoch)
