"""What someone who knows the truth would do with a verdict: for trials, where the truth is
known.
"""

from __future__ import annotations

import dataclasses

import torch

from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.verdict import DROP, FIX, KEEP, Verdict

BY_ORACLE = ", labels by the oracle"


def truthful(verdict: Verdict, data: Dataset) -> Verdict:
    """The same suspects, looked at by the oracle: wrong labels are set right, right ones kept.

    Raises InputError where a suspect's truth is not known.
    """
    suspect = torch.isin(verdict.act, torch.tensor([DROP, FIX]))
    if data.truth is None or bool((data.truth[suspect] < 0).any()):
        raise InputError(
            "the truth is not known here, so there is no oracle; name its column with "
            "--truth, or plant noise with --noise"
        )
    wrong = suspect & (data.truth != data.labels)
    return dataclasses.replace(
        verdict,
        act=torch.where(wrong, FIX, torch.where(suspect, KEEP, verdict.act)),
        proposed=torch.where(wrong, data.truth, torch.where(suspect, -1, verdict.proposed)),
        probability=torch.where(suspect, wrong.float(), verdict.probability),
        by=verdict.by + BY_ORACLE,
    )
