"""Any image classifier of torchvision, its last layer taken off.
pytorch.org/vision/stable/models.html
"""

from __future__ import annotations

import inspect
from pathlib import Path

import torch
from torch import Tensor, nn

from datablame.base import environment, readers
from datablame.base.errors import InputError, Unfetched, unknown
from datablame.base.shapes import Float

SMALL = 64
"""Up to this side a stem made for 224 pixels is adapted: first convolution 3x3 without stride, no
early pooling."""


class torchvision(nn.Module):
    """Any torchvision classifier by its name alone (mobilenet_v2), with weights by name
    (weights=DEFAULT) or from a local file.
    """

    def __init__(
        self, shape: tuple[int, int, int], name: str = "resnet18", weights: str | None = None
    ):
        super().__init__()
        from torchvision import models

        if name not in models.list_models(models):
            raise unknown("torchvision classifier", name, models.list_models(models))
        make = models.get_model_builder(name)
        options = (
            {"image_size": shape[1]}
            if "image_size" in inspect.signature(make).parameters or name.startswith("vit_")
            else {}
        )
        if name in ("googlenet", "inception_v3") and weights is None:
            options |= {"aux_logits": False, "init_weights": False}
        self.net: nn.Module = (
            make(weights=None, **options) if weights is None else _weighted(make, name, weights)
        )
        if name in ("googlenet", "inception_v3"):
            self.net.aux_logits = False  # type: ignore[assignment]  # the helper heads do not train here
            self.net.transform_input = False  # type: ignore[assignment]  # we normalise ourselves
        self.dim = _behead(self.net)
        _fit_stem(self.net, shape)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return self.net(x).flatten(1)


def _weighted(make: object, name: str, weights: str) -> nn.Module:
    """The net with weights from a local `.safetensors` or `.pth` file (no pickle), or by
    torchvision's names.
    """
    from torchvision import models

    if Path(weights).suffix:
        if not Path(weights).is_file():
            raise InputError(f"there is no weights file {weights}")
        net = models.get_model(name, weights=None)
        try:
            if weights.endswith(".safetensors"):
                net.load_state_dict(readers.read_tensors(Path(weights))[0])
            else:
                state = readers.read_pth(Path(weights))
                net.load_state_dict(state.get("state_dict", state))
        except Exception as error:  # torch, pickle and safetensors each raise their own
            raise InputError(
                f"{weights} does not hold weights of {name}: {str(error).splitlines()[0]}"
            ) from None
        return net
    return classifier(name, weights)


def classifier(name: str, weights: str) -> nn.Module:
    """A classifier with weights by torchvision's names, fetched where they are not there. Raises
    InputError for a name that is nowhere, Unfetched where they cannot be had.
    """
    from torchvision import models

    try:
        if environment.offline():
            url = getattr(models.get_model_weights(name)[weights], "url", "")
            there = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
            if not there.exists():
                raise OSError("--offline (HF_HUB_OFFLINE) forbids the network")
        return models.get_model(name, weights=weights)
    except (KeyError, ValueError):
        raise unknown(
            f"weights of {name}", weights, models.get_model_weights(name).__members__
        ) from None
    except OSError as error:
        raise Unfetched(f"the weights {weights} of {name} cannot be fetched ({error})") from None


def _behead(net: nn.Module) -> int:
    """Put the identity in the place of the last layer, a Linear or the 1x1 convolution of
    SqueezeNet; return the number of features it took.
    """
    layers = [
        name for name, part in net.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))
    ]
    parent, _, child = layers[-1].rpartition(".")
    holder = net.get_submodule(parent)
    layer = getattr(holder, child)
    setattr(holder, child, nn.Identity())
    return layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels


def _fit_stem(net: nn.Module, shape: tuple[int, int, int]) -> None:
    """Adapt the first convolution to the channels, and the stem to small images; trained filters
    are kept where they can be.
    """
    name, old = next(
        (name, part) for name, part in net.named_modules() if isinstance(part, nn.Conv2d)
    )
    small = (
        max(shape[1:]) <= SMALL and old.stride != old.kernel_size
    )  # patches of a transformer stay as they are
    kernel = 3 if small and old.kernel_size[0] > 3 else old.kernel_size[0]
    if not small and old.in_channels == shape[0]:
        return
    stride = 1 if small else old.stride[0]
    padding = kernel // 2 if small else old.padding[0]
    new = nn.Conv2d(shape[0], old.out_channels, kernel, stride, padding, bias=old.bias is not None)
    with torch.no_grad():
        cut = (old.kernel_size[0] - kernel) // 2
        weight = old.weight[:, :, cut : cut + kernel, cut : cut + kernel]
        new.weight.copy_(
            weight
            if shape[0] == old.in_channels
            else weight.sum(1, keepdim=True).expand_as(new.weight) / shape[0]
        )
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, new)
    if small and isinstance(getattr(net, "maxpool", None), nn.MaxPool2d):
        net.maxpool = nn.Identity()
