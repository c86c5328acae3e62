"""What the names of the classes say of each picture: a second opinion that never saw a label.

Radford et al., 2021 (CLIP). arXiv:2103.00020

Formula: `1 - softmax_k(cos(image_n, text_k) / T)_y`.
When: the classes have plain names and the pictures are photographs; nothing is trained. It needs
CLIP's weights.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base import processes
from datablame.base.shapes import Float
from datablame.inference.features import spoken
from datablame.network.encoders import FOUND
from datablame.network.zero_shot import zero_shot
from datablame.run import Run

PROBABILITY, WHOLE = True, True


def named(run: Run, model: str = "ViT-B-32", weights: str | None = FOUND) -> Float[Tensor, " N"]:
    """One minus the probability of the given class by its name alone, "a photo of a cat", in CLIP's
    space of pictures and words; `weights`: a safetensors file, or none for random ones.
    """
    run.data.need_pictures("'named'")
    clip, view = zero_shot(run.data, model, weights)
    parts = list(spoken(clip, run.data.looked_at(view)))  # all of them at rank 0, which says them
    p = torch.from_numpy(np.concatenate(parts))
    whole = torch.zeros(len(run.data), len(run.data.classes))
    if len(p):
        whole.copy_(p)
    return 1 - processes.same(whole).gather(1, run.data.labels[:, None])[:, 0]
