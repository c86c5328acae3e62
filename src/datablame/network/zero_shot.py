"""A classifier made of the names of classes: pictures and words in one space, by CLIP.

Radford et al., 2021. arXiv:2103.00020; weights and code of open_clip (Ilharco et al., 2021).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from datablame.base import devices
from datablame.base.decode import View
from datablame.base.errors import InputError, Unfetched, unknown
from datablame.base.shapes import Float
from datablame.dataset import Dataset
from datablame.network import encoders
from datablame.network.classifier import Classifier
from datablame.network.frozen import Frozen, channels

PROMPT = "a photo of a {}."


class Seen(nn.Module):
    """The half of CLIP that looks at pictures: `[B,3,S,S]` to unit vectors `[B,D]`."""

    def __init__(self, visual: nn.Module, dim: int):
        super().__init__()
        self.visual, self.dim = visual, dim

    def forward(self, x: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        return normalize(self.visual(x))


def zero_shot(data: Dataset, name: str, weights: str | None) -> tuple[Classifier, View]:
    """The classifier of a set's class names, and how it looks at photographs.

    Raises InputError without open_clip, for an unknown model, for class names without letters, and
    for weights that are of another model; Unfetched where they are not on this machine.
    """
    if odd := [each for each in data.classes if not any(sign.isalpha() for sign in each)]:
        raise InputError(
            f"'named' reads the names of the classes, and '{odd[0]}' is no word; name the classes "
            "of the set, or leave 'named' out"
        )
    try:
        import open_clip
    except ImportError:
        raise InputError("'named' needs open_clip: pip install 'datablame[named]'") from None
    if name not in open_clip.list_models():
        raise unknown("model of open_clip", name, open_clip.list_models())
    path = None if weights is None else _file(weights)
    try:
        clip: Any = open_clip.create_model(
            name,
            pretrained=None if path is None else str(path),
            load_weights=path is not None,
            force_quick_gelu=weights == encoders.FOUND,  # as OpenAI's was taught
        ).eval()
    except Exception as error:  # open_clip, torch and safetensors each raise their own
        raise InputError(
            f"{path} does not hold weights of {name}: {str(error).strip().splitlines()[0]}"
        ) from None
    words = [PROMPT.format(each.replace("_", " ")) for each in data.classes]
    with torch.inference_mode():
        text = normalize(clip.encode_text(open_clip.get_tokenizer(name)(words)))
        scale = float(clip.logit_scale.exp())
    look = clip.visual.preprocess_cfg
    side = look["size"] if isinstance(look["size"], int) else look["size"][0]
    view = View(side, 0 if look["resize_mode"] == "squash" else side, look["interpolation"])
    mean, std = (channels(data.shape, tuple(look[each])) for each in ("mean", "std"))
    head = nn.Linear(text.shape[1], len(words), bias=False)
    with torch.no_grad():
        head.weight.copy_(scale * text)
    model = Classifier(Frozen(Seen(clip.visual, text.shape[1]), mean, std, side), head, mean, std)
    return model.eval().to(devices.device()), view


def _file(weights: str) -> Path:
    """The safetensors file of the weights. Raises Unfetched where it is not on this machine."""
    path = encoders.home() / f"{encoders.NAMED}.safetensors"
    path = path if weights == encoders.FOUND else Path(weights)
    if weights == encoders.FOUND and not path.is_file():
        raise Unfetched(encoders.absent(encoders.NAMED, "MIT"))
    if path.suffix != ".safetensors" or not path.is_file():
        raise InputError(f"there is no file of weights {path} (.safetensors)")
    return path
