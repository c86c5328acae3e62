"""Weights that are kept on the way, and the learning rates between them.

Pruthi et al., 2020. arXiv:2002.08484
"""

from __future__ import annotations

from datablame.base.errors import InputError
from datablame.network.classifier import Classifier, trained
from datablame.optimization.schedules import schedule
from datablame.run import Run


def kept_epochs(checkpoints: int, epochs: int) -> list[int]:
    """The epochs, from 0, after which weights are kept: evenly spread, the last among them."""
    count = min(checkpoints, epochs)
    return [epochs * (i + 1) // count - 1 for i in range(count)]


def checkpoints(run: Run) -> list[tuple[float, Classifier]]:
    """(sum of the learning rates of the epochs since the checkpoint before, an epoch counting once;
    the model then), in order.

    Raises InputError where the run kept none.
    """
    recipe = run.recipe
    epochs = kept_epochs(recipe.checkpoints, recipe.epochs)
    if not epochs:
        raise InputError(f"{run.path} kept no checkpoints; train with --checkpoints 5")
    rate_at = schedule(recipe.schedule, recipe.warmup)
    rates = [recipe.lr * rate_at((epoch + 0.5) / recipe.epochs) for epoch in range(recipe.epochs)]
    found = []
    for before, epoch in zip([-1, *epochs], epochs, strict=False):
        model = trained(recipe, run.data, run.path / "checkpoints" / f"{epoch}.safetensors")
        found.append((sum(rates[before + 1 : epoch + 1]), model))
    return found
