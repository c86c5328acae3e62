"""TracIn: the training steps retraced over checkpoints. Pruthi et al., 2020 (eq. 2). arXiv:2002.08484"""

from __future__ import annotations

from datablame.dataset import Dataset
from datablame.evidence import passes
from datablame.evidence.factors import Factors, Fisher
from datablame.evidence.inner import Inner
from datablame.run import Run


def tracin(run: Run, queries: Dataset, of: str = "margin", layers: str = "*") -> Inner:
    """`sum_c rate_c g_q^T g_n`, the rates summed since the checkpoint before: the fall of the query's loss by the example's steps."""
    fisher = Fisher(kind="identity", layers=layers)
    return Inner(
        run, queries, [(rate, Factors(run, fisher, model).fit()) for rate, model in passes.checkpoints(run)], of
    )
