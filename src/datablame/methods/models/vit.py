"""A vision transformer for small images.

Dosovitskiy et al., 2021. arXiv:2010.11929; its size for CIFAR as in Memory Wrap's experiments.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datablame.base.errors import InputError
from datablame.base.shapes import Float


class vit(nn.Module):
    """Patches on an 8 x 8 grid and a class token through `depth` layers, 6.3 million weights; a
    rest that fills no patch is cut off.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        grid: int = 8,
        depth: int = 7,
        hidden: int = 384,
        heads: int = 12,
        mlp: int = 384,
    ):
        super().__init__()
        if min(shape[1:]) < grid:
            raise InputError(
                f"images of {shape[1]}x{shape[2]} have no {grid} x {grid} patches; ask for "
                "vit,grid=4"
            )
        if hidden % heads:
            raise InputError(f"hidden must be a multiple of heads; got {hidden} and {heads}")
        self.dim = hidden
        side = shape[1] // grid, shape[2] // grid
        self.seen = grid * side[0], grid * side[1]
        self.patch = nn.Conv2d(shape[0], hidden, side, side)
        self.token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.place = nn.Parameter(0.02 * torch.randn(1, grid * grid + 1, hidden))
        layers = (
            nn.TransformerEncoderLayer(
                hidden, heads, mlp, 0.0, "gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.layers = nn.Sequential(*layers, nn.LayerNorm(hidden))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        patches = self.patch(x[:, :, : self.seen[0], : self.seen[1]]).flatten(2).mT
        whole = torch.cat([self.token.expand(len(x), -1, -1), patches], 1) + self.place
        return self.layers(whole)[:, 0]
