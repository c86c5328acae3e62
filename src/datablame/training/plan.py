"""What a command will train, how long it takes on this machine, and what fits into some minutes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from datablame.base import devices, files, processes, progress, readers
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.dataset import Dataset
from datablame.network.classifier import FROZEN, view_of
from datablame.recipe import Recipe
from datablame.training.auto import settle
from datablame.training.fit import trainer_of
from datablame.training.pace import GLANCE, best_threads, encodes, step_cost

WIDTHS = (1.0, 0.5, 0.25)
EPOCHS = (4, 100)
"""Fewest and most epochs that a budget of minutes chooses."""
ASKED = 0.6
"""Of a training image's work, what one costs that is only looked at, itself and mirrored."""
FIXED = 6.0
"""Seconds that any audit takes besides: judging, pictures, beginning and ending each training."""
BESIDES = 1.1
"""The whole of an audit against its trainings: features, signals, pictures."""


@dataclass(frozen=True)
class Plan:
    """The trainings of a settled recipe on a set of `rows` images and `tests` test images (0: the
    folds' own).

    `seeds` to prove a verdict with, on `proof` folds; `first`: with the trainings that are judged.
    """

    recipe: Recipe
    rows: int
    tests: int
    seeds: int = 0
    proof: int = 2
    first: bool = True
    times: int = 1
    """How many times the whole is done, with other seeds."""

    @property
    def crossed(self) -> bool:
        """Whether the folds' models stand for the set."""
        return not self.tests and self.recipe.folds > 1

    @property
    def _share(self) -> float:
        """Of the set, what a fold's model is trained on."""
        return 1 - 1 / self.recipe.folds if self.recipe.folds > 1 else 1.0

    @property
    def models(self) -> int:
        """How many are trained to be judged by."""
        return (0 if self.crossed else 1) + (self.recipe.folds if self.recipe.folds > 1 else 0)

    @property
    def proofs(self) -> int:
        """How many are trained to prove: before with other seeds, after and control."""
        each = max(0, 3 * self.seeds - 1)
        return each * (min(self.proof, self.recipe.folds) if self.crossed else 1)

    @property
    def passes(self) -> float:
        """Trainings, counted in passes of all epochs over the whole set."""
        whole = 0 if self.crossed else 1
        first = whole + (self.models - whole) * self._share
        proof = self.proofs * (self._share if self.crossed else 1.0)
        return self.times * (first * self.first + proof)

    @property
    def images(self) -> float:
        """Images that go forward and backward; one that is only looked at counts for a part."""
        trained = trainer_of(self.recipe).cost * self.rows * self.recipe.epochs * self.passes
        return trained + ASKED * self.seen

    @property
    def seen(self) -> float:
        """Images that are only looked at, by models that are tested or that left them out."""
        each = self.tests or self.rows * (1 - self._share)
        looked = self.rows * self.first * (self.recipe.folds > 1)
        return self.times * (each * (self.proofs + self.first) + looked)

    def __str__(self) -> str:
        epochs = f"of {self.recipe.epochs} epochs"
        parts = [f"{self.models} training{'s' * (self.models > 1)} {epochs}"] if self.first else []
        if self.proofs:
            parts.append(f"{self.proofs} to prove" + ("" if self.first else f" {epochs}"))
        return ", then ".join(parts) + (f", {self.times} times" if self.times > 1 else "")


@dataclass(frozen=True, repr=False)
class Estimate(Result):
    """What a plan will take: minutes, and bytes of memory and disk."""

    plan: Plan
    minutes: float
    memory: int
    disk: int

    def to_json(self) -> dict[str, Any]:
        return {
            "trainings": self.plan.models * self.plan.first,
            "trainings_to_prove": self.plan.proofs,
            "epochs": self.plan.recipe.epochs,
            "minutes": self.minutes,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "sentence": str(self),
        }

    def __str__(self) -> str:
        memory, disk = files.human(self.memory), files.human(self.disk)
        time = progress.span(60 * self.minutes)
        return f"{self.plan}: about {time}, {memory} of memory, {disk} of disk"


def estimate(plan: Plan, data: Dataset) -> Estimate:
    """Time some steps of a plan's recipe, and reckon what the whole takes. An encoder that does not
    train looks once at each image.
    """
    recipe = plan.recipe
    data = data.looked_at(view_of(recipe.model))
    with devices.threads(best_threads(recipe, data)):
        seconds, model_bytes = step_cost(recipe, data)
    activations = 60 * prod(data.shape) * 4 * recipe.batch_size // recipe.accumulate
    disk = int(
        plan.passes * (model_bytes + recipe.epochs * len(data) * (10 + 4 * recipe.top_k))
        + len(data) * (1024 + 8 * len(data.classes))
    )
    images = plan.rows + plan.tests if encodes(recipe) else plan.images
    held = (data.images.array.nbytes if data.images else 0) + 40 * len(data)
    return Estimate(
        plan,
        (FIXED + BESIDES * seconds * images) / 60,
        700 * 2**20 + 4 * model_bytes + activations + held,
        disk,
    )


@contextlib.contextmanager
def announced(plan: Plan, data: Dataset, done: bool = False) -> Iterator[None]:
    """Say what will be done and how long it takes, and show progress of the whole; nothing of what
    is `done` already.
    """
    if processes.agree(done):
        yield
        return
    seconds = 0.0
    if not plan.recipe.model.startswith(FROZEN):  # whose features are made once, not each epoch
        with devices.threads(best_threads(plan.recipe, data)):
            cost, _ = step_cost(plan.recipe, data, GLANCE)
        seconds = FIXED + BESIDES * cost * plan.images
    progress.say(f"{plan}" + (f": about {progress.span(seconds)}" if seconds else ""))
    trained = plan.images - ASKED * plan.seen
    with progress.clock(trained, plan.models * plan.first + plan.proofs, seconds):
        yield


def within(
    minutes: float,
    recipe: Recipe,
    data: Dataset,
    out: Path,
    planned: Callable[[Recipe], Plan],
) -> Recipe:
    """The settled recipe whose plan fits in `minutes`: the widest net that still gets ten epochs,
    or those that are asked for, then as many as fit. With an encoder that does not train there is
    nothing to choose: it fits or not.

    What was picked is kept in `out`, so that the same command resumes the same run. Raises
    InputError for a budget that nothing fits.
    """
    if minutes <= 0:
        raise InputError(f"--minutes must be more than 0; got {minutes:g}")
    first = planned(settle(recipe, data))
    facts = f"{data.fingerprint}/{minutes}/{first.tests}/{first.seeds}/{first.proof}"
    memo = out / f".budget-{recipe.hash(facts)}.json"
    if processes.agree(memo.exists()):
        return Recipe.from_json(readers.read_json(memo))
    if encodes(first.recipe):
        need = processes.agree(estimate(first, data).minutes)
        if need > minutes:
            raise InputError(
                f"{minutes:g} minutes are too few: {first.recipe.model} needs about {need:.1f}; "
                "ask for more, or use --limit or a smaller encoder (datablame encoders)"
            )
        return first.recipe
    candidates, least = [first.recipe], recipe.epochs or EPOCHS[0]
    if recipe.model == "auto" and candidates[0].model.startswith("resnet9"):
        candidates = [
            planned(settle(recipe.but(model=f"resnet9,width={width}"), data)).recipe
            for width in WIDTHS
        ]
    chosen, epochs = candidates[-1], 0.0
    for candidate in candidates:
        with devices.threads(best_threads(candidate, data)):
            each = processes.agree(step_cost(candidate, data)[0]) * BESIDES / 60
        fixed, once = (planned(candidate.but(epochs=count)).images for count in (0, 1))
        left = (minutes - FIXED / 60) / each - fixed
        chosen, epochs = candidate, max(left, 1e-6) / (once - fixed)
        if epochs >= (recipe.epochs or 10):
            break
    if epochs < least:
        need = least / epochs * minutes
        raise InputError(
            f"{minutes:g} minutes are too few: {least} epochs of {chosen.model} need "
            f"about {need:.1f}; ask for more, or use --limit, --folds 0 or --no-retrain"
        )
    chosen = chosen.but(epochs=recipe.epochs or min(int(epochs), EPOCHS[1]))
    progress.say(f"{minutes:g} minutes: {chosen.model} for {chosen.epochs} epochs")
    files.write_json(memo, chosen.to_json())
    return chosen
