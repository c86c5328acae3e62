"""The loss of an example under the model that was not trained on it.

Rad & Maleki, 2020 (approximate leave-one-out). arXiv:1801.10243

Formula: `-log p_-n(y_n)`.
When: a linear head stands on frozen features: held-out losses without training any fold.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float
from datablame.inference import predictions
from datablame.influence import factors
from datablame.influence.fisher import Fisher
from datablame.linear_probe.leverage import left_out
from datablame.run import Run


def loo(
    run: Run, how: str = "head", directions: int | None = None, fisher: Fisher = Fisher()
) -> Float[Tensor, " N"]:
    """Cross-entropy without the example, in nats; of a linear head at its optimum on the run's
    features, in closed form.

    `directions`: how many of the features are treated exactly, the rest by EK-FAC; by default as
    many as memory allows. `how=influence`: of the whole net, to first order: the loss plus
    self-influence.
    """
    if how == "head":
        return left_out(run, directions)[:, 2]
    if how == "influence":
        return -predictions.given(run).clamp_min(1e-30).log() + factors.squares(run, fisher) / len(
            run.data
        )
    raise unknown("way to the loss without an example", how, ("head", "influence"))
