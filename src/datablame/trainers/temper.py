"""Data parameters: temperatures learned beside the weights, which quieten wrong labels as training goes on. Saxena, Tuzel, DeCoste, 2019."""

from __future__ import annotations

from datablame.classifier import Classifier
from datablame.evidence.descent import descend
from datablame.evidence.temper import Temper, Temperatures
from datablame.run import Run


def temper(run: Run, how: Temper = Temper()) -> Classifier:
    """Plain training whose logits are divided by a temperature of the example, of its class, or of both; the trace holds `sigma`.

    Answers do not know temperatures. Raises InputError for temperatures of one class.
    """
    return descend(run, Temperatures(run, how))
