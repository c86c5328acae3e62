"""Data parameters: temperatures learned beside the weights, which quieten wrong labels as training goes on. Saxena, Tuzel, DeCoste, 2019."""

from __future__ import annotations

from datablame.classifier import Classifier
from datablame.dataset import Dataset
from datablame.evidence.descent import descend
from datablame.evidence.temper import KINDS, Temper, Temperatures
from datablame.ground.errors import InputError
from datablame.recipe import Recipe
from datablame.run import Run


def temper(run: Run, how: Temper = Temper()) -> Classifier:
    """Plain training whose logits are divided by a temperature of the example, of its class, or of both; the trace holds `sigma`.

    Answers do not know temperatures.
    """
    return descend(run, Temperatures(run, how))


def suits(recipe: Recipe, data: Dataset, model: Classifier, how: Temper = Temper()) -> None:
    """Raises InputError for temperatures of classes where there is one."""
    if "class" in KINDS[how.of] and len(data.classes) < 2:
        raise InputError(f"{data.source} has one class, and temperatures of classes are learned by comparing classes")


temper.suits = suits  # type: ignore[attr-defined]  # asked before a run is made
