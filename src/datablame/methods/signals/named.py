"""What the names of the classes say of each picture: a second opinion that never saw a label.

Radford et al., 2021 (CLIP). arXiv:2103.00020
"""

from __future__ import annotations

import torch
from torch import Tensor

from datablame.base.shapes import Float
from datablame.inference.features import answers
from datablame.network.encoders import FOUND
from datablame.network.zero_shot import zero_shot
from datablame.run import Run

PROBABILITY, WHOLE = True, True
BLOCK = 4096
"""Rows of kept features that are looked at together."""


def named(run: Run, model: str = "ViT-B-32", weights: str | None = FOUND) -> Float[Tensor, " N"]:
    """One minus the probability of the given class by its name alone, "a photo of a cat", in CLIP's
    space of pictures and words; `weights`: a safetensors file, or none for random ones.
    """
    run.data.need_pictures("'named'")
    clip, view = zero_shot(run.data, model, weights)
    said = answers(clip, run.data.looked_at(view))
    with torch.inference_mode():
        rows = torch.arange(len(run.data)).split(BLOCK)
        p = torch.cat([said(part).softmax(1).cpu() for part in rows])
    return 1 - p.gather(1, run.data.labels[:, None])[:, 0]
