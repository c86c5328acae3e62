"""Train a run by its recipe."""

from __future__ import annotations

from datablame.base import arrays, devices, files, methods, processes, progress
from datablame.inference import memory
from datablame.optimization.trainer import Trainer
from datablame.recipe import Recipe
from datablame.run import Run
from datablame.training.pace import threads_of


def fit(run: Run, threads: int | None = None) -> None:
    """Train the run's model by its recipe, recording every example at every epoch; resumes where it
    was interrupted. `threads`: those of the run that it belongs to.

    Raises RunError where the loss stops being finite; the last good epoch is kept.
    """
    trainer = trainer_of(run.recipe)
    work = trainer.cost * len(run.data) * run.recipe.epochs
    if run.finished:
        progress.spared(work)
        return
    devices.repeatable()
    unknown = threads is not None and run.about.get("threads") is None
    if processes.agree(unknown):  # rank 0 writes what the others read
        run.change(threads=threads)
    with progress.stage("train"), progress.part(work), devices.threads(threads_of(run)):
        model = trainer.fit(run)
        memory.settle(run, model)
    arrays.write_tensors(run.path / "model.safetensors", model.state_dict())
    run.finish()
    files.remove(run.path / "progress.safetensors")


def trainer_of(recipe: Recipe) -> Trainer:
    """The recipe's trainer with its options. Raises InputError for an unknown one."""
    return methods.find("trainers", recipe.trainer)()
