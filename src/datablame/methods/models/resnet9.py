"""ResNet-9, the small fast net of the CIFAR-10 example of kronfluence, after Page, 2018
(DAWNBench).
"""

from __future__ import annotations

from torch import Tensor, nn

from datablame.base.errors import InputError
from datablame.base.shapes import Float


def _conv(i: int, o: int, kernel: int = 3, stride: int = 1, padding: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, kernel, stride, padding, bias=False), nn.BatchNorm2d(o), nn.ReLU()
    )


class _Residual(nn.Sequential):
    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return input + super().forward(input)


class _Highest(nn.Module):
    """The highest response anywhere in the picture; unlike AdaptiveMaxPool2d its gradient is
    repeatable on a GPU.
    """

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C"]:
        return x.amax((2, 3))


class resnet9(nn.Sequential):
    """Nine layers, 2.3 million weights at width 1; for images of 16 to 64 pixels, fast on a CPU at
    width 0.5.
    """

    def __init__(self, shape: tuple[int, int, int], width: float = 1.0):
        if not width > 0:
            raise InputError(f"width must be above 0; got {width}")
        a, b, c = (max(8, round(n * width)) for n in (64, 128, 256))
        self.dim = b
        super().__init__(
            _conv(shape[0], a),
            _conv(a, b, 5, 2 if min(shape[1:]) > 12 else 1, 2),
            _Residual(_conv(b, b), _conv(b, b)),
            _conv(b, c),
            nn.MaxPool2d(2),
            _Residual(_conv(c, c), _conv(c, c)),
            _conv(c, b, 3, 1, 0 if min(shape[1:]) > 12 else 1),
            _Highest(),
        )
