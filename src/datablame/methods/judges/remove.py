"""Drop the most suspect share, whatever a second opinion says.

Jia et al., 2023 (section 4.2). arXiv:2212.09321

When: the share of wrong labels is known, and there are images enough.
"""

from __future__ import annotations

import torch

from datablame.run import Run
from datablame.scores import Scores
from datablame.verdict import DROP, KEEP, Verdict, least, most_suspect


def remove(run: Run, scores: Scores, share: float = 0.2) -> Verdict:
    """The most suspect `share` of the set is dropped; nothing is relabelled and nobody asked."""
    suspect, estimate = most_suspect(scores, share)
    act, none = torch.where(suspect, DROP, KEEP), torch.full((len(suspect),), -1)
    by = f"remove,share={share:g}"
    return Verdict(
        act,
        none,
        torch.zeros(len(act)),
        scores.values,
        by,
        least(scores, suspect),
        estimate,
        scores.name,
    )
