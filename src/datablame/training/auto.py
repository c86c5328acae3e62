"""What `auto` means: a model by image size and device, epochs and folds by the size of the set."""

from __future__ import annotations

from pathlib import Path

import torch

from datablame.attention.head import attentive
from datablame.base import devices, processes, progress
from datablame.base.doctor import mention_emulated
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.network.classifier import FROZEN, GIVEN, build
from datablame.network.encoders import here
from datablame.optimization.augment import kinds
from datablame.optimization.optimizers import kind_of
from datablame.optimization.schedules import schedule
from datablame.recipe import Recipe
from datablame.training.fit import trainer_of

SMALL_NET = {False: "resnet9,width=0.25", True: "resnet9,width=1"}
"""For images of up to 96 pixels, without a GPU and with one."""
PART = 16
"""Examples of a step that each process has at least, unless the batch was asked for."""
FOLDS = 4
"""Where the folds' models stand for the set: each learns from three quarters of it."""


def settle(recipe: Recipe, data: Dataset, tests: bool = True) -> Recipe:
    """The recipe with every `auto` and 0 replaced by what it stands for here; `tests`: there are
    test images besides.

    Raises InputError for an unknown model, head, optimizer, schedule or augmentation, and where the
    trainer does not suit them, before anything is written.
    """
    fast = devices.device().type == "cuda"
    recipe = recipe.but(**_chosen(recipe, data, fast)) if recipe.model == "auto" else recipe
    model = recipe.model
    if (
        model.startswith(FROZEN)
        and (Path(model.removeprefix(FROZEN).partition(",")[0]) / "run.json").is_file()
    ):
        folder = Path(model.removeprefix(FROZEN)).resolve()  # opened from other folders too
        model = f"{FROZEN}{folder}"
    still = model.startswith(FROZEN) or not data.drawn
    words = "none" if still else "crop+flip" if data.shape[0] == 3 else "crop"
    aug = words if recipe.augment == "auto" else recipe.augment
    kinds(aug)
    if data.images is not None and not data.drawn and aug != "none":
        raise InputError(f"features cannot be changed as images are: leave out --augment {aug}")
    usual = kind_of(recipe)[0].usual * (0.1 if "weights=" in model else 1)
    seen = 1_000_000 if fast else 160_000
    batch = 64 if len(data) < 5_000 else 128 if len(data) < 50_000 or not fast else 512
    settled = recipe.but(
        model=model,
        augment=aug,
        epochs=recipe.epochs or min(max(seen // len(data), 10), 25),
        **{"lr": recipe.lr or usual} | _shared(recipe, len(data), batch, usual),
        precision=_precision(recipe, model),
        folds=recipe.folds if recipe.folds >= 0 else _folds(data, tests),
    )
    if settled.folds > len(data) // 2:
        raise InputError(
            f"{settled.folds} folds of {len(data)} examples leave too few in each; use "
            "fewer: --folds 2"
        )
    try_out(settled, data)
    return settled


def _shared(recipe: Recipe, count: int, batch: int, rate: float) -> dict[str, float]:
    """What a step is where nothing was asked for: the batch; under so many processes that each
    would have fewer than PART of it, PART for each, with a rate that is as many times higher, and a
    twentieth of training to come up to it.

    Goyal et al., 2017. arXiv:1706.02677
    """
    whole = min(PART * processes.size(), count // 20)  # a small set still has its steps
    if recipe.batch_size or recipe.lr or whole <= batch:
        return {"batch_size": recipe.batch_size or batch}
    progress.say(
        f"{processes.size()} processes: {whole} examples a step, and a rate "
        f"{whole / batch:.3g} times that of {batch}; choose others by --batch-size and --lr"
    )
    warmup = max(recipe.warmup, 0.05)
    return {"batch_size": whole, "lr": rate * whole / batch, "warmup": warmup}


def _chosen(recipe: Recipe, data: Dataset, fast: bool) -> dict[str, str]:
    """Model and trainer: of photographs a linear probe on an encoder that has seen many others,
    where its weights are on this machine; else a net that learns from these alone.
    """
    if data.images is not None and not data.images.drawn:
        plain = recipe.head != "linear" or recipe.trainer not in ("plain", "linear_probe")
        return {"model": "mlp"} if plain else {"model": FROZEN + GIVEN, "trainer": "linear_probe"}
    photographs = data.images is not None and data.images.photographs
    probe = recipe.head == "linear" and recipe.trainer in ("plain", "linear_probe")
    if photographs and probe and (best := here()):
        return {"model": f"{FROZEN}{best}", "trainer": "linear_probe"}
    side = max(data.shape[1:])
    if side <= 16:
        return {"model": "mlp"}
    return {"model": SMALL_NET[fast] if side <= 96 else "resnet18"}


def _precision(recipe: Recipe, model: str) -> str:
    """bf16 where the device has it; small perceptrons and heads alone gain nothing by it. Where it
    is asked for and would be emulated, the price is said.
    """
    if recipe.precision == "bf16":
        mention_emulated()
    if recipe.precision != "auto":
        return recipe.precision
    small = model.startswith(("mlp", FROZEN)) and devices.device().type == "cpu"
    return "bf16" if devices.has_bf16() and not small else "fp32"


def _folds(data: Dataset, tests: bool) -> int:
    """Raises InputError for a set of which no model can leave out a part."""
    if not tests and int(data.labels.bincount().max()) < 2:
        raise InputError(
            f"every class of {data.source} has one image: what a label means is learned from other "
            "images of its class, so give two at least"
        )
    if not tests and len(data) < 4:
        raise InputError(
            f"{data.source} has {len(data)} images; each is judged by a model that learned from "
            "others, for which four are needed at least"
        )
    return min(FOLDS, len(data) // 2) if not tests or len(data) < 5_000 else 2


def try_out(recipe: Recipe, data: Dataset) -> None:
    """Build the model, run two blank images and the schedule through, and ask the trainer.

    Raises InputError where something does not fit.
    """
    try:
        rate_at = schedule(recipe.schedule, recipe.warmup)
        for done in (0.0, 0.99):
            rate_at(done)
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"the schedule '{recipe.schedule}' cannot be read: {error}") from None
    try:
        model = build(recipe, data).eval()
        with torch.inference_mode():
            model(torch.zeros(2, *data.shape, dtype=torch.uint8, device=devices.device()))
        if head := attentive(model):
            head.how.fits(len(data) - (-(-len(data) // recipe.folds) if recipe.folds > 1 else 0))
        trainer = trainer_of(recipe)
        for name in trainer.leaves:
            if (value := getattr(recipe, name)) != getattr(Recipe(), name):
                raise InputError(f"{recipe.trainer} has no use for {name} ({value}); leave it out")
        trainer.suits(recipe, data, model)
    except InputError:
        raise
    except (RuntimeError, ValueError, ZeroDivisionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"{recipe.model} cannot be used on images of {'x'.join(map(str, data.shape))}: {reason}"
        ) from None
