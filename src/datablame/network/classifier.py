"""Classifier: an encoder under a head, fed with pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from datablame.attention.head import Attentive
from datablame.base import devices, hashing, methods, processes, readers
from datablame.base.decode import View
from datablame.base.errors import InputError, Unfetched
from datablame.base.shapes import Float, Shaped, UInt8
from datablame.dataset import Dataset
from datablame.layers.thinned import thin
from datablame.layers.united import unite
from datablame.network.encoders import full, known, view
from datablame.network.frozen import Frozen, Given, foreign, looks, published
from datablame.recipe import Recipe


class Classifier(nn.Module):
    """`forward(pixels) -> logits [B,K]`; pixels are uint8 or floats in [0, 1], normalised
    inside.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, encoder: nn.Module, head: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]
    ):
        super().__init__()
        self.encoder = encoder
        self.dim = int(encoder.dim)  # type: ignore[arg-type]  # every encoder has it
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def features(
        self, pixels: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]
    ) -> Float[Tensor, "B D"]:
        x = (unit(pixels) - self.mean) / self.std
        return self.encoder(x.contiguous(memory_format=torch.channels_last))

    def forward(
        self,
        pixels: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"],
        memory: Tensor | None = None,
    ) -> Float[Tensor, "B K"]:
        """`memory [m,C,H,W]`: this process's part of the images that an attentive head looks at,
        encoded in one batch with the others.
        """
        if memory is None:
            return self.answer(self.features(pixels))
        both = self.features(torch.cat([pixels, memory]))
        assert isinstance(self.head, Attentive)
        whole = processes.together(both[len(pixels) :], self.head.how.size)
        return self.answer(both[: len(pixels)], whole)

    def answer(self, features: Tensor, *memory: Tensor) -> Tensor:
        """The head in float32, whatever the encoder is in: losses and margins need its bits, and it
        costs next to nothing."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features.float(), *(each.float() for each in memory))


def unit(pixels: Shaped[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Bytes as floats in [0, 1]; floats as they are."""
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


class Prepared(nn.Module):
    """Your own module behind what prepares its input: `module(prepare(pixels))`."""

    def __init__(self, module: nn.Module, prepare: Callable[[Tensor], Tensor] = unit):
        super().__init__()
        self.module, self.prepare = module, prepare
        self.linear = [
            each for each in module.modules() if isinstance(each, nn.Linear)
        ]  # a list, which registers nothing twice
        self.dim = self.linear[-1].in_features if self.linear else 0

    def features(self, pixels: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        """What goes into the last linear layer. Raises InputError where the module has none."""
        if not self.linear:
            raise InputError(
                f"{type(self.module).__name__} has no linear layer whose input could serve "
                "as features"
            )
        seen: list[Tensor] = []
        hook = self.linear[-1].register_forward_hook(
            lambda _, inputs, output: seen.append(inputs[0])
        )
        try:
            self(pixels)
        finally:
            hook.remove()
        return seen[-1]

    def forward(self, pixels: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.module(self.prepare(pixels))


class _Beside(nn.Module):
    """Encoders side by side: their features, one after the other."""

    def __init__(self, encoders: Sequence[nn.Module]):
        super().__init__()
        self.each = nn.ModuleList(encoders)
        self.dim = sum(int(encoder.dim) for encoder in encoders)  # type: ignore[arg-type]  # every encoder has it

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return torch.cat([encoder(x) for encoder in self.each], 1)


def joined(nets: Sequence[Classifier], whole: Classifier) -> Classifier:
    """The mean of the logits of `nets`, which have linear heads, as the one classifier `whole`,
    whose encoder is those of `nets` side by side.
    """
    with torch.no_grad():
        for part, net in zip(whole.encoder.each, nets, strict=True):  # type: ignore[arg-type]  # a list of modules
            part.load_state_dict(net.encoder.state_dict())
        whole.head.weight.copy_(torch.cat([net.head.weight for net in nets], 1) / len(nets))  # type: ignore[operator]
        whole.head.bias.copy_(torch.stack([net.head.bias for net in nets]).mean(0))  # type: ignore[operator,arg-type]
    return whole


def build(recipe: Recipe, data: Dataset, encoders: int = 1) -> Classifier:
    """The recipe's model for this data, with fresh weights drawn from the recipe's seed, on the
    device.

    Several `encoders` stand side by side under one head: the mean of several nets.
    """
    with hashing.seeded("weights", recipe.seed):
        every = [encoder_of(recipe.model, data.shape) for _ in range(encoders)]
        encoder = every[0] if encoders == 1 else _Beside(every)
        head = methods.find("heads", recipe.head)(encoder.dim, len(data.classes))
    if isinstance(head, Attentive):
        head.how.fits(len(data))
    mean, std = (
        (encoder.mean, encoder.std) if isinstance(encoder, Frozen) else (data.mean, data.std)
    )
    model = thin(Classifier(encoder, head, mean, std))
    united = unite(model) if recipe.batch_norm == "united" else model
    return united.to(devices.device(), memory_format=torch.channels_last)  # type: ignore[return-value]  # the same module


def trained(recipe: Recipe, data: Dataset, weights: Path) -> Classifier:
    """The recipe's model with the weights of a safetensors file, in eval mode; how many encoders it
    has is read off the file.
    """
    kept, _ = readers.read_tensors(weights)
    beside = {name.split(".")[2] for name in kept if name.startswith("encoder.each.")}
    model = build(recipe, data, max(1, len(beside)))
    readers.into(model, kept, weights)
    return model.eval()


FROZEN = "frozen:"
"""Before the name of a torchvision classifier, or the folder of a run: its encoder does not
train."""


GIVEN = "features"
"""The name, after `frozen:`, of no encoder: the examples are features already."""


def ready(model: str) -> None:
    """Have the weights of an encoder that does not train, before anything long begins.

    Raises InputError where they are neither here nor to be had.
    """
    if model.startswith(FROZEN):
        encoder_of(model, (3, 64, 64))


def encoder_of(model: str, shape: tuple[int, int, int]) -> nn.Module:
    """The encoder that a recipe's `model` names: `resnet9,width=0.5`, `mobilenet_v2`,
    `frozen:resnet50`, `frozen:runs/...`.

    Raises InputError for a name that is nowhere, weights that cannot be had, or a folder that holds
    no run.
    """
    try:
        return _encoder_of(model, shape)
    except Unfetched as error:
        name = model.removeprefix(FROZEN).partition(",")[0]
        named = f"{FROZEN if model.startswith(FROZEN) else ''}{name}"
        file = f"{full(name)}.safetensors" if known(name) else f"{name}.pth"
        raise InputError(
            f"{error}; or give a local file: --model {named},weights=path/to/{file}"
        ) from None


def _encoder_of(model: str, shape: tuple[int, int, int]) -> nn.Module:
    if not model.startswith(FROZEN):
        return methods.find("models", spec(model))(shape)
    if not model.removeprefix(FROZEN).partition(",")[0]:
        raise InputError(
            "name the encoder that does not train: frozen:resnet50, or frozen:runs/... of "
            "a run of yours"
        )
    name, options = methods.parse(model.removeprefix(FROZEN))
    if (Path(name) / "run.json").is_file():
        home = Path(name)
        if not (home / "model.safetensors").exists() and (home / "folds" / "0").is_dir():
            home = home / "folds" / "0"  # no model of it has seen all images
        facts = readers.read_json(home / "run.json", recipe=dict)
        source = Dataset.restore(home / "data" / "train")
        recipe = Recipe.from_json(facts["recipe"], name)
        whole = trained(recipe, source, home / "model.safetensors")
        mean, std = (tuple(part.flatten().tolist()) for part in (whole.mean, whole.std))
        return Frozen(whole.encoder, mean, std)
    if name == GIVEN:
        return Frozen(Given(shape[0]), (0.0,), (1.0,))
    if known(name):
        return foreign(shape, name, **methods.cast(foreign, FROZEN + name, options))
    if "/" in name:
        raise InputError(
            f"there is no run at {name} whose encoder could be taken, seen from {Path.cwd()}"
        )
    if "." in name:
        return _own(methods.find("models", model.removeprefix(FROZEN))(shape), name)
    return published(shape, name, **methods.cast(published, FROZEN + name, options))


def _own(net: nn.Module, name: str) -> Frozen:
    """An encoder of the user's: `[B,C,H,W] -> [B,D]` with `dim`, and `mean`, `std` and `size` where
    it wants other pixels than those in [0, 1]. Raises InputError for one without `dim`.
    """
    if not hasattr(net, "dim"):
        raise InputError(f"{name} needs an attribute `dim`, the number of its features")
    mean, std = (tuple(getattr(net, which, (at,))) for which, at in (("mean", 0.0), ("std", 1.0)))
    return Frozen(net, mean, std, getattr(net, "size", None))


def view_of(model: str) -> View | None:
    """How the encoder of a recipe's `model` looks at photographs; None for one that trains, or that
    learned from images as they are packed.
    """
    if not model.startswith(FROZEN):
        return None
    name, options = methods.parse(model.removeprefix(FROZEN))
    size = int(options["size"]) if options.get("size", "").isdigit() else None
    if (run := Path(name) / "run.json").is_file():
        return view_of(str(readers.read_json(run, recipe=dict)["recipe"].get("model", "")))
    if known(name):
        return view(name, size)
    if "." in name and "/" not in name:
        own = getattr(methods.find("models", model.removeprefix(FROZEN)), "size", None)
        return View(own, own) if isinstance(own, int) else None
    if name == GIVEN or "/" in name:
        return None
    return looks(name, size)[0]


def spec(model: str) -> str:
    """`mobilenet_v2,weights=DEFAULT` -> `torchvision,name=mobilenet_v2,...`; names of the house as
    they are.

    Raises InputError where neither torchvision nor the house has the name.
    """
    name, _, options = model.partition(",")
    if "." in name or name in methods.names("models"):
        return model
    from torchvision import models

    if name not in models.list_models(models):
        raise methods.unknown(
            "model", name, [*methods.names("models"), *models.list_models(models)]
        )
    return f"torchvision,name={name}{',' if options else ''}{options}"
