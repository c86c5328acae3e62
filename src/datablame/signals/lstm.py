"""A detector that learned from traces what a wrong label looks like. Jia et al., 2023. arXiv:2212.09321"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from datablame.evidence.detector import Detector, chosen, file_of, mention
from datablame.run import Run


def lstm(run: Run, detector: str = "auto") -> Float[Tensor, " N"]:
    """The chance that the label is wrong, by a taught detector: `few` or `many` (classes, and wrong labels), a file, or by the number of classes."""
    found = Detector.load(chosen(run, detector))
    mention(run, found)
    return found.chances(run)[:, -1]


lstm.reads = lambda run, detector="auto": file_of(chosen(run, detector))  # type: ignore[attr-defined]  # its scores are as old as this file
