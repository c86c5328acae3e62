"""The forward and backward pass of a step, replayed as a CUDA graph where there is a GPU: the many
small kernels of a step take longer to be started one by one than they do.

Nguyen et al., 2021. Accelerating PyTorch with CUDA Graphs. pytorch.org/blog
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from datablame.base import devices, processes, progress
from datablame.base.shapes import Float

WARM = 3
"""Steps of one size that are made as they are before one is recorded, so that all libraries are set
up."""
SINCE = (2, 12)
"""The first torch that is sound again after a pass could not be recorded."""
Pass = Callable[..., tuple[Tensor, Tensor]]
"""`(count, labels, temperatures or None, *inputs) -> (logits [b,K], loss [])`, which leaves the
gradients of the loss, divided by `count`, at the weights."""


def fastest(model: nn.Module, work: Pass) -> Pass:
    """The pass itself; with one process on a GPU one that is replayed, unless
    `DATABLAME_GRAPHS=no`.
    """
    alone = devices.records() and processes.size() == 1 and _version() >= SINCE
    return Replayed(model, work) if alone and devices.said_yes("DATABLAME_GRAPHS") else work


def _version() -> tuple[int, ...]:
    return tuple(map(int, torch.__version__.split(".")[:2]))


class Replayed:
    """A pass that is recorded once for each shape of its inputs; afterwards these are copied to
    where the first ones were, and what was recorded is run again.
    """

    def __init__(self, model: nn.Module, work: Pass):
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.work, self.broken, self.pool = work, False, devices.pool()
        self.warm: Counter[tuple] = Counter()
        self.known: dict[tuple, tuple[list[Tensor], Callable[[], list[Tensor | None]]]] = {}

    def __call__(
        self, count: int, labels: Tensor, by: Float[Tensor, " b"] | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        given = [labels, *inputs] if by is None else [labels, *inputs, by]
        mark = (count, by is None, *(each.shape for each in given))
        if not self.broken and self.warm[mark] == WARM:
            self._record(mark, count, by is None, given)
        self.warm[mark] += 1
        if self.broken:
            return self.work(count, labels, by, *inputs)
        if mark not in self.known:
            return devices.aside(lambda: self.work(count, labels, by, *inputs))
        held, replay = self.known[mark]
        for there, new in zip(held, given, strict=True):
            there.copy_(new)
        logits, loss, *slopes = replay()
        for weight, slope in zip(self.weights, slopes, strict=True):
            weight.grad = slope
        assert logits is not None and loss is not None
        return logits.clone(), loss.clone()  # the next one is written to the same place

    def _record(self, mark: tuple, count: int, plain: bool, given: list[Tensor]) -> None:
        """Record the pass at these shapes; where the device refuses, it goes on as it is."""
        held = [each.clone() for each in given]

        def whole() -> list[Tensor | None]:
            labels, *inputs = held
            by = None if plain else inputs.pop()
            out = self.work(count, labels, by, *inputs)
            return [*out, *(weight.grad for weight in self.weights)]

        try:
            self.known[mark] = held, devices.recorded(whole, self.pool)
        except RuntimeError as error:
            self.broken = True
            self.known.clear()  # the memory of the others is needed now
            mention(str(error).partition("\n")[0])
            devices.synchronise()


@functools.cache
def mention(reason: str) -> None:
    """Say once in a process why steps are slower than they could be."""
    progress.say(f"steps are not replayed as a CUDA graph, so they are slower: {reason}")
