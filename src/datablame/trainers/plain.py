"""Stochastic gradient descent with Nesterov's momentum on the cross-entropy of the given labels. Sutskever et al., 2013."""

from __future__ import annotations

from datablame.classifier import Classifier
from datablame.evidence.descent import descend
from datablame.run import Run


def plain(run: Run) -> Classifier:
    """Plain training on the labels as they are given."""
    return descend(run)
