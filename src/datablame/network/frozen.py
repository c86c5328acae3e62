"""An encoder that does not train, under a head that does: the fast way without a GPU.

Zheng & Jiang, 2022. arXiv:2203.12171
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from datablame.base import arrays
from datablame.base.decode import View
from datablame.base.errors import Unfetched, unknown
from datablame.base.shapes import Float
from datablame.network import encoders

Channels = tuple[float, ...]
SIDE = 224
"""Pixels that torchvision's classifiers look at where their weights do not say."""


class Frozen(nn.Module):
    """An encoder whose weights and normalisation stay as they are.

    Images are brought to `size` pixels where one is given, and repeated to three channels; `mean`
    and `std` are those that the encoder was trained with, a number per channel.
    """

    def __init__(self, net: nn.Module, mean: Channels, std: Channels, size: int | None = None):
        super().__init__()
        self.net, self.mean, self.std, self.size = net, mean, std, size
        self.dim = int(net.dim)  # type: ignore[arg-type]  # every encoder has it
        self.requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Frozen:
        """Stays in eval mode: its normalisation is part of what is frozen."""
        return super().train(False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        if self.size is not None:
            x = x.expand(-1, 3, -1, -1)
            if x.shape[2:] != (self.size, self.size):
                x = interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return self.net(x)


class Given(nn.Module):
    """What stands for an encoder where the examples are features already."""

    def __init__(self, dim: int):
        super().__init__()
        self.dim = dim

    def forward(self, x: Float[Tensor, "B D 1 1"]) -> Float[Tensor, "B D"]:
        return x.flatten(1)


def published(
    shape: tuple[int, int, int],
    name: str = "resnet50",
    weights: str | None = encoders.FOUND,
    size: int | None = None,
) -> Frozen:
    """A torchvision classifier without its last layer: `frozen:resnet50,weights=my.pth,size=160`.

    `weights`: as torchvision names them, a local file, or none; `size`: side in pixels that images
    are brought to. Raises InputError for an unknown classifier, or weights that do not fit it;
    Unfetched for weights that are not on this machine.
    """
    from datablame.methods.models.torchvision import torchvision

    look, mean, std = looks(name, size)
    if weights == encoders.FOUND:
        weights = _found(name)
    net = torchvision((3, look.size, look.size), name, weights)
    return Frozen(net, channels(shape, mean), channels(shape, std), look.size)


def looks(name: str, size: int | None = None) -> tuple[View, Channels, Channels]:
    """(view, mean, std) of a torchvision classifier: those of its default weights."""
    from torchvision import models

    if name not in models.list_models(models):
        raise unknown("torchvision classifier", name, models.list_models(models))
    best = models.get_model_weights(name)["DEFAULT"].transforms()
    own, resize = best.crop_size[0], best.resize_size[0]
    side = size or own
    view = View(side, round(resize * side / own), best.interpolation.value)
    return view, tuple(best.mean), tuple(best.std)


def _found(name: str) -> str:
    """The default weights of a torchvision classifier: a file, or their name where torch has them.

    Raises Unfetched where they are not on this machine.
    """
    from torchvision import models

    kept = encoders.home() / f"{name}.safetensors"
    if kept.is_file():
        return str(kept)
    url = Path(models.get_model_weights(name)["DEFAULT"].url).name
    if not (Path(torch.hub.get_dir()) / "checkpoints" / url).exists():
        raise Unfetched(encoders.absent(name, "see pytorch.org/vision"))
    return encoders.FOUND


def foreign(
    shape: tuple[int, int, int],
    name: str,
    weights: str | None = encoders.FOUND,
    size: int | None = None,
) -> Frozen:
    """An encoder of timm's: `frozen:dinov2`, `frozen:timm/convnext_tiny,weights=my.safetensors`."""
    net = encoders.made(name, weights, size)
    facts = encoders.about(name)
    mean, std = (tuple(map(float, facts[each])) for each in ("mean", "std"))
    side = encoders.view(name, size).size
    return Frozen(net, channels(shape, mean), channels(shape, std), side)


def channels(shape: tuple[int, int, int], each: Channels) -> Channels:
    """Numbers of three channels for as many as the images have."""
    return each if shape[0] == 3 else (sum(each) / 3,)


def fetch(name: str, folder: Path) -> Path:
    """Fetch an encoder's weights into a folder, as safetensors. Raises InputError where they cannot
    be had.
    """
    path = folder / f"{encoders.full(name)}.safetensors"
    if path.is_file():
        return path
    if encoders.known(name) or name == encoders.NAMED:
        return encoders.fetched(name, path)
    from datablame.methods.models.torchvision import classifier

    looks(name)  # an unknown name is told
    state = classifier(name, "DEFAULT").state_dict()
    return arrays.write_tensors(path, {key: each.contiguous() for key, each in state.items()})
