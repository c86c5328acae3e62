"""What `auto` means: a model by image size and device, epochs by the size of the set or by the
minutes there are.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from datablame.attention.head import attentive
from datablame.base import files, hashing, processes, progress, readers
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.dataset import Dataset
from datablame.network.classifier import FROZEN, build
from datablame.optimization.augment import augment, kinds
from datablame.optimization.schedules import schedule
from datablame.recipe import Recipe
from datablame.training.fit import trainer_of

WIDTHS = (1.0, 0.5, 0.25)
EPOCHS = (4, 100)
"""Fewest and most epochs that a budget of minutes chooses."""


def settle(recipe: Recipe, data: Dataset) -> Recipe:
    """The recipe with every `auto` and 0 replaced by what it stands for here.

    Raises InputError for an unknown model, head, schedule or augmentation, and where the trainer
    does not suit them, before anything is written.
    """
    fast = processes.device().type == "cuda"
    side = max(data.shape[1:])
    model = recipe.model
    if model == "auto":
        model = (
            "mlp"
            if side <= 16
            else f"resnet9,width={1 if fast else 0.25}"
            if side <= 96
            else "resnet18"
        )
    if (
        model.startswith(FROZEN)
        and (Path(model.removeprefix(FROZEN).partition(",")[0]) / "run.json").is_file()
    ):
        folder = Path(model.removeprefix(FROZEN)).resolve()  # opened from other folders too
        model = f"{FROZEN}{folder}"
    words = "none" if model.startswith(FROZEN) else "crop+flip" if data.shape[0] == 3 else "crop"
    aug = words if recipe.augment == "auto" else recipe.augment
    kinds(aug)
    seen = 1_000_000 if fast else 160_000
    settled = recipe.but(
        model=model,
        augment=aug,
        epochs=recipe.epochs or min(max(seen // len(data), 10), 40),
        batch_size=recipe.batch_size
        or (64 if len(data) < 5_000 else 128 if len(data) < 50_000 or not fast else 512),
        lr=recipe.lr or (0.01 if "weights=" in model else 0.1),
        precision=("bf16" if fast else "fp32") if recipe.precision == "auto" else recipe.precision,
        folds=recipe.folds if recipe.folds >= 0 else (4 if len(data) < 5_000 else 2),
    )
    if settled.folds > len(data) // 2:
        raise InputError(
            f"{settled.folds} folds of {len(data)} examples leave too few in each; use "
            "fewer: --folds 2"
        )
    try_out(settled, data)
    return settled


def try_out(recipe: Recipe, data: Dataset) -> None:
    """Build the model, run two blank images and the schedule through, and ask the trainer.

    Raises InputError where something does not fit.
    """
    try:
        rate_at = schedule(recipe.schedule)
        for done in (0.0, 0.99):
            rate_at(done)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"the schedule '{recipe.schedule}' cannot be read: {error}") from None
    try:
        model = build(recipe, data).eval()
        with torch.inference_mode():
            model(torch.zeros(2, *data.shape, dtype=torch.uint8, device=processes.device()))
        if head := attentive(model):
            head.how.fits(len(data) - (-(-len(data) // recipe.folds) if recipe.folds > 1 else 0))
        trainer_of(recipe).suits(recipe, data, model)
    except InputError:
        raise
    except (RuntimeError, ValueError, ZeroDivisionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{recipe.model} cannot be used on images of {'x'.join(map(str, data.shape))}: {reason}"
        ) from None


def _trainings(recipe: Recipe, seeds: int) -> int:
    """Number of full-set training runs an audit costs: the first, the folds, and before,
    after and control for each seed.
    """
    return max(recipe.folds - 1, 0) + models(seeds)


def models(seeds: int) -> int:
    """How many models an audit tries on the test set: the first, and before, after and control for
    each seed.
    """
    return max(1, 3 * seeds)


def images(recipe: Recipe, data: Dataset, test: Dataset, seeds: int) -> float:
    """How many images an audit passes forward and backward; a test image, forward and mirrored,
    counts for 0.6 of one.
    """
    return trainer_of(recipe).cost * len(data) * recipe.epochs * _trainings(
        recipe, seeds
    ) + 0.6 * len(test) * models(seeds)


@dataclass(frozen=True, repr=False)
class Estimate(Result):
    """What an audit will take: minutes, and bytes of memory and disk."""

    minutes: float
    memory: int
    disk: int

    def to_json(self) -> dict[str, Any]:
        return {
            "minutes": self.minutes,
            "memory_bytes": self.memory,
            "disk_bytes": self.disk,
            "sentence": str(self),
        }

    def __str__(self) -> str:
        span, memory, disk = (
            progress.span(60 * self.minutes),
            files.human(self.memory),
            files.human(self.disk),
        )
        return f"about {span}, {memory} of memory, {disk} of disk"


def estimate(recipe: Recipe, data: Dataset, test: Dataset, seeds: int) -> Estimate:
    """Measure a few steps of a settled recipe, and reckon what the whole audit takes."""
    seconds, model_bytes = _step_cost(recipe, data)
    runs = _trainings(recipe, seeds)
    activations = 60 * prod(data.shape) * 4 * recipe.batch_size
    disk = int(
        runs * (model_bytes + recipe.epochs * len(data) * (10 + 4 * recipe.top_k))
        + len(data) * (1024 + 8 * len(data.classes))
    )
    held = (data.images.array.nbytes if data.images else 0) + 40 * len(data)
    return Estimate(
        seconds * images(recipe, data, test, seeds) / 60,
        700 * 2**20 + 4 * model_bytes + activations + held,
        disk,
    )


def _step_cost(recipe: Recipe, data: Dataset) -> tuple[float, int]:
    """(seconds an image of forward and backward, bytes of the weights), from the best of three
    steps after one to warm up.
    """
    model = build(recipe, data).train()
    index = torch.arange(min(recipe.batch_size, len(data)))
    head, times = attentive(model), []
    memory = data.batch(hashing.some(len(data), head.how.size, "calibration"))[0] if head else None
    for _ in range(4):
        began = time.perf_counter()
        images, labels = data.batch(index)
        with processes.autocast(recipe.precision):
            logits = model(augment(images, index, recipe.augment, "calibration"), memory)
        cross_entropy(logits.float(), labels).backward()
        if processes.device().type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:]) / len(index), sum(
        p.numel() * p.element_size() for p in model.parameters()
    )


def within(
    minutes: float, recipe: Recipe, data: Dataset, test: Dataset, seeds: int, out: Path
) -> Recipe:
    """The settled recipe whose audit fits in `minutes`: the widest net that still gets ten epochs,
    then as many as fit.

    What was picked is kept in `out`, so that the same command resumes the same run. Raises
    InputError for a budget that nothing fits.
    """
    if minutes <= 0:
        raise InputError(f"--minutes must be more than 0; got {minutes:g}")
    memo = out / f".budget-{recipe.hash(f'{data.fingerprint}/{minutes}/{seeds}')}.json"
    if processes.agree(memo.exists()):
        return Recipe.from_json(readers.read_json(memo))
    candidates = [settle(recipe, data)]
    if recipe.model == "auto" and candidates[0].model.startswith("resnet9"):
        candidates = [settle(recipe.but(model=f"resnet9,width={width}"), data) for width in WIDTHS]
    chosen = candidates[-1]
    epochs = 0.0
    for candidate in candidates:
        each = (
            processes.agree(_step_cost(candidate, data)[0]) * 1.15 / 60
        )  # features and signals: 15 %
        fixed, once = (images(candidate.but(epochs=count), data, test, seeds) for count in (0, 1))
        chosen, epochs = candidate, max(minutes / each - fixed, 1e-6) / (once - fixed)
        if epochs >= 10:
            break
    if epochs < EPOCHS[0]:
        need = EPOCHS[0] / epochs * minutes
        raise InputError(
            f"{minutes:g} minutes are too few: {EPOCHS[0]} epochs of {chosen.model} need "
            f"about {need:.1f}; ask for more, or use --limit, --folds 0 or --no-retrain"
        )
    chosen = chosen.but(epochs=recipe.epochs or min(int(epochs), EPOCHS[1]))
    progress.say(f"{minutes:g} minutes: {chosen.model} for {chosen.epochs} epochs")
    files.write_json(memo, chosen.to_json())
    return chosen
