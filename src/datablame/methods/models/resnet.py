"""Residual nets for small images.

He et al., 2016. arXiv:1512.03385; with activation first: arXiv:1603.05027
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from datablame.base.errors import InputError, unknown
from datablame.base.shapes import Float

PLANS = {18: (2, 2, 2, 2), 20: (3, 3, 3), 32: (5, 5, 5), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks a stage: 20 and 32 are the CIFAR nets of section 4.2 (16, 32, 64 channels), the others
those of table 1 with a 3x3 stem."""


class _Block(nn.Module):
    """Two 3x3 convolutions (or 1x1, 3x3, 1x1 where `wide` > 1)  with a shortcut."""

    def __init__(self, i: int, o: int, stride: int, wide: int):
        super().__init__()
        kernels = (
            ((1, 3, 1), (o, o, o * wide), (1, stride, 1))
            if wide > 1
            else ((3, 3), (o, o), (stride, 1))
        )
        layers: list[nn.Module] = []
        before = i
        for kernel, channels, step in zip(*kernels, strict=True):
            layers += [
                nn.Conv2d(before, channels, kernel, step, kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
            before = channels
        self.body = nn.Sequential(*layers[:-1])
        self.short = nn.Sequential()
        if stride > 1 or i != before:
            self.short = nn.Sequential(
                nn.Conv2d(i, before, 1, stride, bias=False), nn.BatchNorm2d(before)
            )

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        return relu(self.body(x) + self.short(x))


class Preactivated(nn.Module):
    """Two 3x3 convolutions, each after its normalisation and activation,  with a shortcut."""

    def __init__(self, i: int, o: int, stride: int):
        super().__init__()
        self.first = nn.Sequential(nn.BatchNorm2d(i), nn.ReLU())
        self.body = nn.Sequential(
            nn.Conv2d(i, o, 3, stride, 1, bias=False),
            nn.BatchNorm2d(o),
            nn.ReLU(),
            nn.Conv2d(o, o, 3, 1, 1, bias=False),
        )
        self.short = nn.Conv2d(i, o, 1, stride, bias=False) if stride > 1 or i != o else None

    def forward(self, x: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        y = self.first(x)
        return self.body(y) + (x if self.short is None else self.short(y))


class resnet(nn.Module):
    """ResNet-18, 20, 32, 34 or 50 with a stem for small images; resnet,depth=20; preact=yes; stem=2
    halves the image first.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        depth: int = 18,
        width: float = 1.0,
        preact: bool = False,
        stem: int = 1,
    ):
        super().__init__()
        if depth not in PLANS:
            raise unknown("depth of resnet", str(depth), map(str, PLANS))
        if preact and depth == 50:
            raise InputError(
                "resnet,preact=yes has blocks of two convolutions: depth 18, 20, 32 or 34"
            )
        plan, wide = PLANS[depth], 4 if depth == 50 else 1
        first = round((16 if len(plan) == 3 else 64) * width)
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], first, 3, stem, 1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
        ]
        before = first
        for stage, blocks in enumerate(plan):
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                if preact:
                    layers.append(Preactivated(before, first << stage, stride))
                else:
                    layers.append(_Block(before, first << stage, stride, wide))
                before = (first << stage) * wide
        if preact:
            layers = [layers[0], *layers[3:], nn.BatchNorm2d(before), nn.ReLU()]
        self.dim = before
        self.body = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return torch.mean(self.body(x), (2, 3))
