"""Influence functions under a Kronecker-factored curvature. Koh, Liang, 2017 (eq. 2). arXiv:1703.04730; Grosse et al., 2023. arXiv:2308.03296"""

from __future__ import annotations

from datablame.dataset import Dataset
from datablame.evidence.factors import Factors, Fisher
from datablame.evidence.inner import Inner
from datablame.run import Run


def influence(run: Run, queries: Dataset, of: str = "margin", fisher: Fisher = Fisher()) -> Inner:
    """`g_q^T (F + damping)^-1 g_n / N`: by how much the query's log-odds (of=loss: nats) would fall if the example were left out."""
    return Inner(run, queries, [(1 / len(run.data), Factors(run, fisher).fit())], of)
