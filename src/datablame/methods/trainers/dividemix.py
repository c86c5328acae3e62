"""DivideMix: two nets, each dividing the data for the other.

Li, Socher, Hoi, 2020. arXiv:2002.07394; with strong augmentation for the descent alone:
Nishi et al., 2021. arXiv:2103.02130

Formula: `P(clean | loss) by two Gaussians; x = l x_i + (1 - l) x_j, with guessed labels for the
rest`.
When: a net is wanted that is good in spite of many wrong labels, and nine times as long a training
is no matter.
"""

from __future__ import annotations

from dataclasses import dataclass

from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.network.classifier import Classifier
from datablame.optimization.augment import kinds
from datablame.optimization.dividemix import Mix, Pair
from datablame.optimization.trainer import Trainer
from datablame.recipe import Recipe
from datablame.run import Run


@dataclass(frozen=True)
class dividemix(Mix, Trainer):
    """Two nets that each tell the other which labels to trust; the rest are guessed, and all are
    mixed (section 3).

    The trace holds what both nets say together, and the channel `clean`, the mean probability
    that a label is right. Several processes mix each their own part of a batch.
    """

    cost, leaves = 5.0, ("label_smoothing", "accumulate", "batch_norm")

    def suits(self, recipe: Recipe, data: Dataset, model: Classifier) -> None:
        if recipe.head != "linear":
            raise InputError(f"dividemix averages two linear heads; got --head {recipe.head}")
        warmup = self.settled(recipe.epochs).warmup
        if not 0 < warmup < recipe.epochs:
            raise InputError(
                f"warmup must be between 1 and {recipe.epochs - 1} of {recipe.epochs} "
                f"epochs; got {warmup}"
            )
        kinds(self.strong or recipe.augment)

    def fit(self, run: Run) -> Classifier:
        epochs = run.recipe.epochs
        pair = Pair(run, self.settled(epochs))
        for epoch in range(pair.state.done, epochs):
            pair.train(epoch)
        pair.ticker.close()
        return pair.whole()
