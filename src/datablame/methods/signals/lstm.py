"""A detector that learned from traces what a wrong label looks like.

Jia et al., 2023. arXiv:2212.09321
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from datablame.base.shapes import Float
from datablame.dynamics.detector import Detector, chosen, file_of, mention
from datablame.run import Run

PROBABILITY = True


def lstm(run: Run, detector: str = "auto") -> Float[Tensor, " N"]:
    """The probability that the label is wrong, by a taught detector: `few` or `many` (classes, and
    wrong labels), a file, or by the number of classes.
    """
    found = Detector.load(chosen(run, detector))
    mention(run, found)
    return found.probabilities(run)[:, -1]


def reads(run: Run, detector: str = "auto") -> Path:
    """The detector's file: scores are made again where it has changed."""
    return file_of(chosen(run, detector))
