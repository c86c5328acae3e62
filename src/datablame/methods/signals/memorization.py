"""Memorization: how much the model's belief in a label hangs on having been trained on it.

Feldman, 2020; Zheng & Jiang, 2022. arXiv:2203.12171

Formula: `p(y_n) - p_-n(y_n)`.
When: it matters which labels are known by heart instead of understood: those are wrong, or rare.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float
from datablame.inference import predictions
from datablame.influence import factors
from datablame.influence.fisher import Fisher
from datablame.linear_probe.leverage import as_published, left_out
from datablame.run import Run


def memorization(
    run: Run, how: str = "head", directions: int | None = None, fisher: Fisher = Fisher()
) -> Float[Tensor, " N"]:
    """The probability of the label minus what it would be without the example; of a linear head at
    its optimum on the run's features, in closed form.

    `directions`: how many of the features are treated exactly, the rest by EK-FAC; by default as
    many as memory allows. `how=influence`: of the whole net, to first order: the probability times
    self-influence. `how=original`: as first published, for comparison.
    """
    if how == "head":
        found = left_out(run, directions)
        return found[:, 0] - found[:, 1]
    if how == "influence":
        return predictions.given(run) * factors.squares(run, fisher) / len(run.data)
    if how == "original":
        return as_published(run)
    raise unknown("way to memorization", how, ("head", "influence", "original"))
