"""Normal noise on the pixels.

After Zheng & Jiang, 2022 (arXiv:2203.12171), and its use on images.

Formula: `x + amount e, e normal`.
When: pictures, not labels, are to be hard.
"""

from __future__ import annotations

import dataclasses

from datablame.base.pixel_noise import Perturbation
from datablame.dataset import Dataset


def pixel_normal(
    data: Dataset, amount: float = 0.2, seed: int = 0, original: bool = False
) -> Dataset:
    """The labels as they are, normal noise on the images, of strength `amount`; original=yes: one
    pattern for all, neither centred nor matched.
    """
    return dataclasses.replace(
        data, images=data.pixels.perturbed(Perturbation("normal", amount, seed, data.std, original))
    )
