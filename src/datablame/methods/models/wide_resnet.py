"""Wide residual nets for small images. Zagoruyko, Komodakis, 2016. arXiv:1605.07146"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datablame.base.errors import InputError
from datablame.base.shapes import Float
from datablame.methods.models.resnet import Preactivated


class wide_resnet(nn.Module):
    """Three stages of (depth - 4) / 6 blocks with activation first;
    wide_resnet,depth=16,width=4.
    """

    def __init__(self, shape: tuple[int, int, int], depth: int = 28, width: float = 10):
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise InputError(
                f"depth of wide_resnet must be 6 n + 4, such as 10, 16, 22, 28 or 40; got {depth}"
            )
        if width <= 0:
            raise InputError(f"width of wide_resnet must be more than 0; got {width:g}")
        layers: list[nn.Module] = [nn.Conv2d(shape[0], 16, 3, 1, 1, bias=False)]
        before = 16
        for stage in range(3):
            channels = max(1, round((16 << stage) * width))
            for block in range((depth - 4) // 6):
                layers.append(Preactivated(before, channels, 2 if stage and not block else 1))
                before = channels
        self.dim = before
        self.body = nn.Sequential(*layers, nn.BatchNorm2d(before), nn.ReLU())

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        return torch.mean(self.body(x), (2, 3))
