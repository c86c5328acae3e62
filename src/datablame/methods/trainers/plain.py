"""Stochastic gradient descent with Nesterov momentum. Sutskever et al., 2013.

Formula: `-log softmax(z)_y`.
When: always, unless there is a reason: the default, and what signals of the trace are defined on.
"""

from __future__ import annotations

from dataclasses import dataclass

from datablame.network.classifier import Classifier
from datablame.optimization.loop import descend
from datablame.optimization.trainer import Trainer
from datablame.run import Run


@dataclass(frozen=True)
class plain(Trainer):
    """Plain training on the labels as they are given, by cross-entropy."""

    def fit(self, run: Run) -> Classifier:
        return descend(run)
