"""The most suspect share, whatever the scores look like.

When: you know how many images you can look at.
"""

from __future__ import annotations

from datablame.label_quality.out_of_sample import opinion
from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import Verdict, decide, most_suspect


def top(run: Run, scores: Scores, share: float = 0.1, sure: float = 0.8) -> Verdict:
    """The most suspect `share` of the set; the estimate of wrong labels is that share, without an
    interval of its own.
    """
    suspect, estimate = most_suspect(scores, share)
    return decide(run.data, scores, suspect, opinion(run), sure, f"top,share={share:g}", estimate)
