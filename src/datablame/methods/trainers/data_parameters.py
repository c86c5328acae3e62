"""Data parameters: temperatures learned with the weights, which mute wrong labels as training goes
on.

Saxena, Tuzel, DeCoste, 2019. Advances in Neural Information Processing Systems 32

Formula: `-log softmax(z / s)_y, s = s_n, s_y, or s_n + s_y`.
When: wrong labels are to be muted while the net learns, and their temperatures read afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.network.classifier import Classifier
from datablame.optimization.data_parameters import LEVELS, DataParameters, Temperatures
from datablame.optimization.loop import descend
from datablame.optimization.trainer import Trainer
from datablame.recipe import Recipe
from datablame.run import Run


@dataclass(frozen=True)
class data_parameters(DataParameters, Trainer):
    """Plain training whose logits are divided by a temperature of the example, its class, or both.

    The trace holds the channel `temperature`. Predictions do not use temperatures.
    """

    def suits(self, recipe: Recipe, data: Dataset, model: Classifier) -> None:
        if "class" in LEVELS[self.level] and len(data.classes) < 2:
            raise InputError(
                f"{data.source} has one class, and class temperatures are learned by "
                "comparing classes"
            )

    def fit(self, run: Run) -> Classifier:
        return descend(run, Temperatures(run, self))
