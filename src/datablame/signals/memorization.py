"""Memorization: how much the model's belief in a label hangs on having been trained on it. Feldman, 2020; Zheng & Jiang, 2022. arXiv:2203.12171"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.evidence import factors, passes
from datablame.evidence.factors import Fisher
from datablame.evidence.leverage import as_published, left_out
from datablame.ground.errors import unknown
from datablame.run import Run


def memorization(
    run: Run, how: str = "head", directions: int | None = None, fisher: Fisher = Fisher()
) -> Float[Tensor, " N"]:
    """The probability of the label minus what it would be without the example; of a linear head at its optimum on the run's features, in closed form.

    `directions`: of the features, so many are treated exactly, the rest by EK-FAC; as many as memory allows unless told. `how=influence`: of the
    whole net, to first order: the probability times self-influence. `how=original`: as first published, for comparison.
    """
    if how == "head":
        found = left_out(run, directions)
        return found[:, 0] - found[:, 1]
    if how == "influence":
        return passes.given(run) * factors.squares(run, fisher) / len(run.data)
    if how == "original":
        return as_published(run)
    raise unknown("way to memorization", how, ("head", "influence", "original"))
