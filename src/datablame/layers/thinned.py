"""1x1 convolutions with a stride, as those of the pixels that they look at.

oneDNN's gradient of the weights of such a convolution, where it has fewer inputs than the
processor has lanes (8, or 16) and lies in channels-last order, is written past the memory that it
has: the process dies, or the gradient is wrong. github.com/uxlfoundation/oneDNN/issues/6035
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

LANES = 16
"""Numbers in a register of 512 bits."""


def thin(model: nn.Module) -> nn.Module:
    """Have each 1x1 convolution of few inputs with a stride take every second pixel first, and
    then step by one: the same function.
    """
    for part in model.modules():
        if (
            isinstance(part, nn.Conv2d)
            and part.kernel_size == (1, 1)
            and part.stride != (1, 1)
            and part.padding in ((0, 0), "valid")
            and part.in_channels // part.groups < LANES
        ):
            part.register_forward_pre_hook(partial(_every, part.stride))
            part.stride = (1, 1)
    return model


def _every(stride: tuple[int, ...], _: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0][..., :: stride[0], :: stride[1]],)
