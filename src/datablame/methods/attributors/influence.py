"""Influence functions under a Kronecker-factored curvature.

Koh, Liang, 2017 (eq. 2). arXiv:1703.04730; Grosse et al., 2023. arXiv:2308.03296

When: you ask which training images an answer rests on, of whatever net: the most faithful here,
where retrained models judge.
"""

from __future__ import annotations

from datablame.dataset import Dataset
from datablame.influence.factors import Factors
from datablame.influence.fisher import Fisher
from datablame.influence.products import GradientProducts
from datablame.run import Run


def influence(
    run: Run, queries: Dataset, measure: str = "margin", fisher: Fisher = Fisher()
) -> GradientProducts:
    """`g_q^T (F + damping)^-1 g_n / N`: by how much the query's log-odds (`measure=loss`: nats)
    would fall if the example were left out.
    """
    return GradientProducts(
        run, queries, [(1 / len(run.data), Factors(run, fisher).fit())], measure
    )
