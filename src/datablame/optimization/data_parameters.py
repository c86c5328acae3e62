"""Data parameters: temperatures of examples and classes that divide the logits, learned with the
weights. Saxena, Tuzel, DeCoste, 2019. Advances in Neural Information Processing Systems 32
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, devices, processes, progress
from datablame.base.errors import InputError, unknown
from datablame.base.shapes import Float, Int
from datablame.run import Run
from datablame.trace import Recorder

PACE = {"instance": 0.2 / 128 * 120, "class": 0.1 / 256 * 120}
"""The paper's rates of one example, over all its epochs."""
LEVELS = {"instance": ("instance",), "class": ("class",), "both": ("instance", "class")}


@dataclass(frozen=True)
class DataParameters:
    """How temperatures are learned. Every field is an option:
    `data_parameters,level=both,lr=0.003`.

    Rates and decays are those of a sum over examples, so that they mean the same whatever the batch
    and the number of processes: the paper's rate divided by its batch, and its decay times its
    batch.
    """

    level: str = "instance"
    """Whose temperatures: instance, class, or both, which are added."""
    lr: float = 0.0
    """Of the examples' temperatures, constant; 0: the paper's 0.2 at batches of 128 for 120 epochs,
    as much larger as there are fewer epochs."""
    class_lr: float = 0.0
    """Of the classes' temperatures, constant; 0: the paper's 0.1 at batches of 256 for 120 epochs,
    as much larger as there are fewer epochs."""
    weight_decay: float = 0.0
    """Pull of the examples' temperatures towards 1."""
    class_weight_decay: float = 0.0
    """Pull of the classes' temperatures towards 1, once for each of its examples in a batch."""
    init: float = 0.0
    """The examples' temperature at first; 0: 1, or `min` where classes have theirs too, as the
    paper's 0.001 is after a step."""
    class_init: float = 1.0
    """The classes' temperature at first."""
    momentum: float = 0.9
    """Of the steps of the temperatures of the rows, or classes, that a batch holds; others keep
    theirs."""
    min: float = 0.05
    """No temperature falls below."""
    max: float = 20.0
    """No temperature rises above."""

    def __post_init__(self) -> None:
        if self.level not in LEVELS:
            raise unknown("kind of temperature", self.level, LEVELS)
        if not 0 < self.min < self.max < math.inf:
            raise InputError(f"0 < min < max is needed; got min={self.min:g}, max={self.max:g}")
        for name in ("lr", "class_lr", "weight_decay", "class_weight_decay", "init", "class_init"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a number from 0; got {getattr(self, name)}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum must be from 0 to less than 1; got {self.momentum}")


class Temperatures:
    """Logarithms of the temperatures and their momenta: `instance [N]`, `class [K]`, or both."""

    def __init__(self, run: Run, how: DataParameters):
        self.run, self.how = run, how
        data = run.data
        sizes = {"instance": len(data), "class": len(data.classes)}
        starts = {
            "instance": how.init or (1.0 if how.level == "instance" else how.min),
            "class": how.class_init,
        }
        paces = {kind: pace / run.recipe.epochs for kind, pace in PACE.items()}
        self.rates = {
            "instance": (how.lr or paces["instance"], how.weight_decay),
            "class": (how.class_lr or paces["class"], how.class_weight_decay),
        }
        self.range = math.log(how.min), math.log(how.max)
        self.logs, self.tensors = {}, {}
        for kind in LEVELS[how.level]:
            first = min(max(starts[kind], how.min), how.max)
            self.logs[kind] = torch.full((sizes[kind],), math.log(first), device=devices.device())
            momentum = torch.zeros_like(self.logs[kind])
            self.tensors |= {f"log_{kind}": self.logs[kind], f"{kind}_momentum": momentum}
        self.channels = ("temperature",) if "instance" in self.logs else ()

    def at(self, rows: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """Temperatures of these examples: their own, their class's, or the sum of both."""
        return sum(self.logs[kind][self.places(kind, rows)].exp() for kind in self.logs)  # type: ignore[return-value]

    def places(self, kind: str, rows: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        places = rows if kind == "instance" else self.run.data.labels_of(rows)
        return places.to(self.logs[kind].device)

    @torch.no_grad()
    def step(
        self, batch: Int[Tensor, " B"], logits: Float[Tensor, "b K"], labels: Int[Tensor, " b"]
    ) -> None:
        """Move the temperatures of a batch, of which this process has seen the logits of its part;
        no other row is read or written.
        """
        mine = self.at(processes.shard(batch))
        part = _slopes(logits.to(mine.device), labels.to(mine.device), mine)
        slope = processes.together(part, len(batch))
        for kind, log in self.logs.items():
            places = self.places(kind, batch)
            rate, decay = self.rates[kind]
            share = slope * log[places].exp() + decay * log[places]
            if kind == "class":  # of each example of the class that the batch holds
                share = torch.zeros_like(log).index_add_(0, places, share)
                places = places.bincount(minlength=len(log)).nonzero()[:, 0]
                share = share[places]
            momentum = self.tensors[f"{kind}_momentum"]
            new = self.how.momentum * momentum[places] + share
            momentum[places] = new
            log[places] = (log[places] - rate * new).clamp(*self.range)

    def record(self, recorder: Recorder, epoch: int) -> None:
        """Put the epoch's temperatures into the trace, and those of the classes next to it."""
        epochs = self.run.recipe.epochs
        if "instance" in self.logs:
            recorder.held["temperature"].copy_(self.logs["instance"].exp())
        if "class" in self.logs:
            shape = (epochs, len(self.logs["class"]))
            file = arrays.mapped(self.run.path / "class_temperature.npy", shape, "float32")
            file[epoch] = self.logs["class"].exp().cpu().numpy()
            if isinstance(file, np.memmap):  # rank 0's
                file.flush()
        if epoch == epochs - 1:
            self.mention()

    def mention(self) -> None:
        """Say where many temperatures stand at the upper limit."""
        for kind, log in self.logs.items():
            high = float((log >= self.range[1]).float().mean())
            if high > 0.01:
                name = "lr" if kind == "instance" else "class_lr"
                progress.say(
                    f"{high:.0%} of the temperatures ({kind}) stand at the limit of "
                    f"{self.how.max:g}; they would stay below it with a smaller {name} "
                    f"than {self.rates[kind][0]:.2g}"
                )


def _slopes(
    logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"], sigma: Float[Tensor, " B"]
) -> Float[Tensor, " B"]:
    """Derivative of the cross-entropy of `logits / sigma` by sigma: `(z_y - E_p[z]) / sigma^2` (eq.

    5 and 6).
    """
    z = logits.float()
    expected = ((z / sigma[:, None]).softmax(1) * z).sum(1)
    return (z.gather(1, labels[:, None])[:, 0] - expected) / sigma.square()
