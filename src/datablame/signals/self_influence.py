"""Self-influence: how much an example's own loss would rise without it. Koh, Liang, 2017 (section 5.4). arXiv:1703.04730"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.evidence import factors
from datablame.evidence.factors import Fisher
from datablame.run import Run


def self_influence(run: Run, fisher: Fisher = Fisher()) -> Float[Tensor, " N"]:
    """`g^T (F + damping)^-1 g / N`, in nats: the rise of the loss if the example were left out; best once the wrong labels are fitted."""
    return factors.squares(run, fisher) / len(run.data)
