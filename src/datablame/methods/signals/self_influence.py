"""Self-influence: how much an example's own loss would rise without it.

Koh, Liang, 2017 (section 5.4). arXiv:1703.04730

When: the wrong labels are fitted already, and `explain` is used too, whose factors it shares.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base.errors import unknown
from datablame.base.shapes import Float
from datablame.influence import factors
from datablame.influence.fisher import Fisher
from datablame.linear_probe.leverage import left_out
from datablame.run import Run


def self_influence(
    run: Run, how: str = "net", directions: int | None = None, fisher: Fisher = Fisher()
) -> Float[Tensor, " N"]:
    """`g^T (F + damping)^-1 g / N`, in nats: the rise of the loss if the example were left out;
    best once the wrong labels are fitted.

    `how=head`: exact, of a linear head at its optimum on the run's features; `directions` as for
    `memorization`.
    """
    if how == "net":
        return factors.squares(run, fisher) / len(run.data)
    if how == "head":
        return left_out(run, directions)[:, 3] / len(run.data)
    raise unknown("way to self-influence", how, ("net", "head"))
