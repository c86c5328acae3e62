"""AutoAugment: pairs of changes that were found by search on CIFAR-10, SVHN and ImageNet.

Cubuk et al., 2019. arXiv:1805.09501; tables and changes are torchvision's, a group of images that
undergo the same at a time.
"""

from __future__ import annotations

from torch import Tensor

from datablame.base import hashing
from datablame.base.shapes import Int, UInt8

POLICIES = {
    "autoaugment": "cifar10",
    "autoaugment_svhn": "svhn",
    "autoaugment_imagenet": "imagenet",
}
BINS = 10
"""Magnitudes of a change."""


def autoaugmented(
    images: UInt8[Tensor, "B C H W"], rows: Int[Tensor, " B"], name: str, *seed: object
) -> UInt8[Tensor, "B C H W"]:
    """A pair of changes an image, each with its probability and direction, drawn by row."""
    from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
    from torchvision.transforms.autoaugment import _apply_op

    policy = AutoAugment(AutoAugmentPolicy(POLICIES[name]))
    height, width = images.shape[2:]
    reach = policy._augmentation_space(BINS, (height, width))
    rows, images = rows.to(images.device), images.clone()
    which = (hashing.uniform(rows, name, *seed) * len(policy.policies)).long()
    for number in which.unique().tolist():
        mine = (which == number).nonzero()[:, 0]
        for turn, (change, probability, level) in enumerate(policy.policies[number]):
            strength, signed = reach[change]
            amount = 0.0 if level is None else float(strength[level])
            drawn, side = (
                hashing.uniform(rows[mine], word, *seed, turn) for word in ("probability", "side")
            )
            go = drawn < probability
            for sign in (1, -1) if signed else (1,):
                some = mine[go & ((side < 0.5) == (sign > 0))] if signed else mine[go]
                if len(some):
                    images[some] = _apply_op(
                        images[some], change, sign * amount, InterpolationMode.NEAREST, None
                    )
    return images
