"""An encoder that does not train, under a head that does: the fast way without a GPU.

Zheng & Jiang, 2022. arXiv:2203.12171
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import interpolate

from datablame.base.shapes import Float

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Frozen(nn.Module):
    """An encoder whose weights and normalisation stay as they are.

    Images are brought to `size` pixels where one is given, and repeated to three channels;
    `mean` and `std` are those that the encoder was trained with, a number per channel.
    """

    def __init__(
        self,
        net: nn.Module,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        size: int | None = None,
    ):
        super().__init__()
        self.net, self.mean, self.std, self.size = net, mean, std, size
        self.dim = int(net.dim)  # type: ignore[arg-type]  # every encoder has it
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stays in eval mode: its normalisation is part of what is frozen."""
        return super().train(False)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D"]:
        if self.size is not None:
            x = x.expand(-1, 3, -1, -1)
            if x.shape[2:] != (self.size, self.size):
                x = interpolate(x, (self.size, self.size), mode="bilinear", antialias=True)
        return self.net(x)


def published(
    shape: tuple[int, int, int],
    name: str = "resnet50",
    weights: str | None = "DEFAULT",
    size: int = 224,
) -> Frozen:
    """A torchvision classifier without its last layer: `frozen:resnet50,weights=my.pth,size=160`.

    `weights`: as torchvision names them, a local file, or none; `size`: side in pixels that images
    are brought to. Raises InputError for an unknown classifier, or weights that do not fit it.
    """
    from datablame.methods.models.torchvision import torchvision

    mean, std = (each if shape[0] == 3 else (sum(each) / 3,) for each in IMAGENET)
    return Frozen(torchvision((3, size, size), name, weights), mean, std, size)
