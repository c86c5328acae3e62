"""Cross-entropy of the given label at one epoch: the small-loss criterion.

Arpit et al., 2017. arXiv:1706.05394

Formula: `-log p_y(t)`.
When: nothing but a model's predictions is there, from before it learned the wrong labels.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import InputError
from datablame.base.shapes import Float
from datablame.run import Run


def loss(run: Run, epoch: int = -1) -> Float[Tensor, " N"]:
    """The loss at one epoch, by default the last.

    At its best before the model has memorised the wrong labels.
    """
    if not -run.trace.epochs <= epoch < run.trace.epochs:
        raise InputError(f"this trace has epochs 0 to {run.trace.epochs - 1}; got epoch {epoch}")
    return run.trace.at("loss", epoch)
