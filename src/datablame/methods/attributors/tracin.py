"""TracIn: the training steps retraced over checkpoints.

Pruthi et al., 2020 (eq. 2). arXiv:2002.08484

When: checkpoints were kept (`--checkpoints`), and it is asked which steps of training moved an
answer.
"""

from __future__ import annotations

from datablame.dataset import Dataset
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.products import GradientProducts
from datablame.optimization.checkpoints import checkpoints
from datablame.run import Run


def tracin(
    run: Run, queries: Dataset, measure: str = "margin", layers: str = "*"
) -> GradientProducts:
    """`sum_c rate_c g_q^T g_n`, the rates summed since the checkpoint before: the fall of the
    query's loss by the example's steps.
    """
    fisher = Fisher(kind="identity", layers=layers)
    return GradientProducts(
        run,
        queries,
        [(rate, Factors(run, fisher, model).fit()) for rate, model in checkpoints(run)],
        measure,
    )
