"""A net that learned from traces what a wrong label looks like.

Jia et al., 2023. arXiv:2212.09321

Formula: `sigmoid(net(trace))`.
When: a net is trained, and wrong labels follow the class (one class taken for another).
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from datablame.base.shapes import Float
from datablame.dynamics.detector import SHIPPED, Detector, file_of, mention
from datablame.run import Run

PROBABILITY = True


def detector(run: Run, file: str = SHIPPED.stem) -> Float[Tensor, " N"]:
    """The probability that the label is wrong, by a taught detector: `shipped`, which comes with
    the package, or a file.
    """
    found = Detector.load(file)
    mention(run, found)
    return found.probabilities(run)


def reads(run: Run, file: str = SHIPPED.stem) -> Path:
    """The detector's file: scores are made again where it has changed."""
    return file_of(file)
