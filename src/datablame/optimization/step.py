"""The forward and backward pass of a step, replayed as a CUDA graph where there is a GPU: the many
small kernels of a step take longer to be started one by one than they do.

Nguyen et al., 2021. Accelerating PyTorch with CUDA Graphs. pytorch.org/blog
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from datablame.base import processes, progress
from datablame.base.shapes import Float

WARM = 3
"""Steps that are made as they are before one is recorded, so that all libraries are set up."""
Pass = Callable[..., tuple[Tensor, Tensor]]
"""`(count, labels, temperatures or None, *inputs) -> (logits [b,K], loss [])`, which leaves the
gradients of the loss, divided by `count`, at the weights."""


def fastest(model: nn.Module, work: Pass) -> Pass:
    """The pass itself, or one that is replayed where the device can, alone."""
    replayable = processes.device().type == "cuda" and processes.size() == 1
    return Replayed(model, work) if replayable else work


class Replayed:
    """A pass that is recorded once for each shape of its inputs; afterwards these are copied to
    where the first ones were, and what was recorded is run again.
    """

    def __init__(self, model: nn.Module, work: Pass):
        self.weights = [weight for weight in model.parameters() if weight.requires_grad]
        self.work, self.warm, self.broken = work, 0, False
        self.known: dict[tuple, tuple[list[Tensor], Callable[[], list[Tensor | None]]]] = {}

    def __call__(
        self, count: int, labels: Tensor, by: Float[Tensor, " b"] | None, *inputs: Tensor
    ) -> tuple[Tensor, Tensor]:
        given = [labels, *inputs] if by is None else [labels, *inputs, by]
        mark = (count, by is None, *(each.shape for each in given))
        if mark not in self.known and not self.broken and self.warm >= WARM:
            self._record(mark, count, by is None, given)
        if mark not in self.known:
            self.warm += 1
            return processes.aside(lambda: self.work(count, labels, by, *inputs))
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
            self.known[mark] = held, processes.recorded(whole)
        except RuntimeError as error:
            self.broken = True
            mention(str(error).partition("\n")[0])
            processes.synchronise()


@functools.cache
def mention(reason: str) -> None:
    """Say once in a process why steps are slower than they could be."""
    progress.say(f"steps are not replayed as a CUDA graph, so they are slower: {reason}")
