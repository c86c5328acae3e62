"""Train a run by its recipe."""

from __future__ import annotations

from datablame.base import files, methods, processes, progress
from datablame.inference import memory
from datablame.optimization.trainer import Trainer
from datablame.recipe import Recipe
from datablame.run import Run


def fit(run: Run) -> None:
    """Train the run's model by its recipe, recording every example at every epoch; resumes where it
    was interrupted.

    Raises RunError where the loss stops being finite; the last good epoch is kept.
    """
    trainer = trainer_of(run.recipe)
    work = trainer.cost * len(run.data) * run.recipe.epochs
    if run.finished:
        progress.spared(work)
        return
    processes.repeatable()
    with progress.stage("train"), progress.part(work):
        model = trainer.fit(run)
        memory.settle(run, model)
    files.write_tensors(run.path / "model.safetensors", model.state_dict())
    run.finish()
    files.remove(run.path / "progress.safetensors")


def trainer_of(recipe: Recipe) -> Trainer:
    """The recipe's trainer with its options. Raises InputError for an unknown one."""
    return methods.find("trainers", recipe.trainer)()
