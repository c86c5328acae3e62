"""The probability that a label is wrong by two nets that divide the data for each other.

Li, Socher, Hoi, 2020. arXiv:2002.07394

Formula: `1 - mean_t P(clean | loss(t))`.
When: the run was trained with `--trainer dividemix`.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.shapes import Float
from datablame.run import Run

PROBABILITY = True


def dividemix(run: Run, since: float = 0.5) -> Float[Tensor, " N"]:
    """One minus the mean over epochs of the probability of being clean; of a run that was trained
    with --trainer dividemix.
    """
    return 1 - run.trace.reduce("clean", lambda clean: clean.mean(0), since)
