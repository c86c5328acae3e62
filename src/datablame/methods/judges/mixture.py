"""A mixture of right and wrong labels in the scores, after Arazo et al., 2019. arXiv:1904.11238

Formula: `a N(m1, s^2) + (1 - a) N(m2, s^2)`.
When: there are scores alone, from anywhere, that have two humps.
"""

from __future__ import annotations

from datablame.label_quality.confident_joint import wrong_by_class
from datablame.label_quality.gaussian_mixture import GaussianMixture
from datablame.label_quality.out_of_sample import has_heldout, opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide


def mixture(run: Run, scores: Scores, sure: float = 0.8, draws: int = 200) -> Verdict:
    """Two normal components of one spread, fitted to the scores: an example is suspect if the upper
    component is the more likely.

    The estimate of wrong labels is the weight of the upper component, or the count of the confident
    joint where that is smaller: a tail of hard images makes the first too large, a weak model the
    second. The interval holds those of both, and never more are suspect than the estimate. One
    spread for both components: docs/design.md says why.
    """
    mixture = GaussianMixture.of(scores.values, draws)
    estimate = mixture.count(len(scores.values))
    if has_heldout(run):
        joint = wrong_by_class(run)[1]
        estimate = (
            min(estimate[0], joint[0]),
            min(estimate[1], joint[1]),
            max(estimate[2], joint[2]),
        )
    rank = scores.values.argsort(descending=True, stable=True).argsort()
    suspect = (mixture.probability(scores.values) > 0.5) & (rank < round(estimate[0]))
    return decide(run.data, scores, suspect, opinion(run), sure, "mixture", estimate)
