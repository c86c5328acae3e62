"""What a trainer offers.

A method in `methods/trainers` is a frozen dataclass of this kind; its fields are its options.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from datablame.dataset import Dataset
from datablame.network.classifier import Classifier
from datablame.recipe import Recipe
from datablame.run import Run


class Trainer(ABC):
    """Finds the weights of a run's model, records every example at every epoch, and resumes."""

    cost: ClassVar[float] = 1.0
    """Forward and backward passes that one image of one epoch takes."""
    leaves: ClassVar[tuple[str, ...]] = ()
    """Fields of a recipe that mean nothing to it: another value than the usual one is refused."""

    def suits(self, recipe: Recipe, data: Dataset, model: Classifier) -> None:  # noqa: B027 - most suit everything
        """Check, before a run is made, that this trainer can train `model` on `data`.

        Raises InputError, with what to ask for instead, where it cannot.
        """

    @abstractmethod
    def fit(self, run: Run) -> Classifier:
        """Train the run's model and return it.

        Raises RunError where the loss stops being finite.
        """
