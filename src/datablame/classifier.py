"""Classifier: an encoder under a head, fed with pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from datablame.attention import Attentive
from datablame.dataset import Dataset
from datablame.ground import draw, plug, world
from datablame.ground.errors import InputError
from datablame.recipe import Recipe


class Classifier(nn.Module):
    """`forward(pixels) -> logits [B,K]`; pixels are uint8 or floats in [0, 1], normalised inside."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: nn.Module, head: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.encoder = encoder
        self.dim = int(encoder.dim)  # type: ignore[arg-type]  # every encoder has it
        self.head = head
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def features(self, pixels: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
        x = (x - self.mean) / self.std
        return self.encoder(x.contiguous(memory_format=torch.channels_last))

    def forward(
        self, pixels: UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"], memory: Tensor | None = None
    ) -> Float[Tensor, "B K"]:
        """`memory [m,C,H,W]`: this process's part of the images that an attentive head looks at, encoded in one batch with the others."""
        if memory is None:
            return self.head(self.features(pixels))
        both = self.features(torch.cat([pixels, memory]))
        return self.head(both[: len(pixels)], world.together(both[len(pixels) :], self.head.how.size))  # type: ignore[union-attr,arg-type]


def unit(pixels: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """Floats in [0, 1]."""
    return pixels.float() / 255


class Prepared(nn.Module):
    """A module of one's own behind what it takes: `module(prepare(pixels))`."""

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
            raise InputError(f"{type(self.module).__name__} has no linear layer whose input could serve as features")
        seen: list[Tensor] = []
        hook = self.linear[-1].register_forward_hook(lambda _, inputs, output: seen.append(inputs[0]))
        try:
            self(pixels)
        finally:
            hook.remove()
        return seen[-1]

    def forward(self, pixels: UInt8[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        return self.module(self.prepare(pixels))


class Beside(nn.Module):
    """Encoders side by side: their features, one after the other."""

    def __init__(self, encoders: Sequence[nn.Module]):
        super().__init__()
        self.each = nn.ModuleList(encoders)
        self.dim = sum(int(encoder.dim) for encoder in encoders)  # type: ignore[arg-type]  # every encoder has it

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return torch.cat([encoder(x) for encoder in self.each], 1)


def joined(nets: Sequence[Classifier], whole: Classifier) -> Classifier:
    """The mean of the logits of `nets`, which have linear heads, as the one classifier `whole`, whose encoder is as many `Beside`."""
    with torch.no_grad():
        for part, net in zip(whole.encoder.each, nets, strict=True):  # type: ignore[arg-type]  # a list of modules
            part.load_state_dict(net.encoder.state_dict())
        whole.head.weight.copy_(torch.cat([net.head.weight for net in nets], 1) / len(nets))  # type: ignore[operator]
        whole.head.bias.copy_(torch.stack([net.head.bias for net in nets]).mean(0))  # type: ignore[operator,arg-type]
    return whole


def build(recipe: Recipe, data: Dataset) -> Classifier:
    """The recipe's model for this data, with fresh weights drawn from the recipe's seed, on the device.

    Where the recipe's trainer trains several nets (its attribute `nets`), the model is as many encoders side by side.
    """
    count = getattr(plug.find("trainers", recipe.trainer).func, "nets", 1)  # type: ignore[attr-defined]  # a partial
    with draw.seeded("weights", recipe.seed):
        encoders = [plug.find("models", spec(recipe.model))(data.shape) for _ in range(count)]
        encoder = encoders[0] if count == 1 else Beside(encoders)
        head = plug.find("heads", recipe.head)(encoder.dim, len(data.classes))
    if isinstance(head, Attentive):
        head.how.fits(len(data))
    mean, std = getattr(encoder, "mean", data.mean), getattr(encoder, "std", data.std)
    model = Classifier(encoder, head, mean, std)
    return world.unite(model).to(world.device(), memory_format=torch.channels_last)  # type: ignore[return-value]  # the same module


def spec(model: str) -> str:
    """`mobilenet_v2,weights=DEFAULT` -> `torchvision,name=mobilenet_v2,...`, `frozen:resnet50` -> `frozen,name=resnet50`; names of the house as they are.

    Raises InputError where neither has the name, or there is none.
    """
    if model.startswith("frozen:"):
        if not model[7:].partition(",")[0]:
            raise InputError(
                "name the encoder that does not train: frozen:resnet50, or frozen:runs/... of a run of yours"
            )
        return model.replace("frozen:", "frozen,name=", 1)
    name, _, options = model.partition(",")
    if "." in name or name in plug.names("models"):
        return model
    from torchvision import models

    if name not in models.list_models(models):
        raise plug.unknown("model", name, [*plug.names("models"), *models.list_models(models)])
    return f"torchvision,name={name}{',' if options else ''}{options}"
