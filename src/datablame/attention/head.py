"""Sparse attention over a memory of training images, and the heads that answer by it.

La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from datablame.base.errors import InputError, unknown
from datablame.base.shapes import Float

CHOICES = ("balanced", "random", "prototypes", "used")
"""How the memory of a finished model is chosen."""


@dataclass(frozen=True)
class Attention:
    """How a head looks at its memory.

    Every field is an option: `memory_wrap,size=50,weights=entmax`.
    """

    size: int = 100
    """Training images that are drawn at each step."""
    keep: int = 0
    """Training images that the finished model answers by; 0: the number drawn at each step."""
    choose: str = "balanced"
    """Which: balanced, the same number of each class; random; prototypes, whose means are the
    classes' means; used, those that are looked at most."""
    similarity: str = "cosine"
    """Of features: cosine, euclidean (minus the squared distance) or dot."""
    weights: str = "sparsemax"
    """What turns similarities into weights: sparsemax, entmax (1.5) or softmax."""
    temperature: float = 1.0
    """Divides the similarities: lower ones look at fewer images."""
    learned: bool = False
    """Learn the temperature, from there."""

    def __post_init__(self) -> None:
        for name, table in (("similarity", SIMILARITIES), ("weights", WEIGHTS)):
            if getattr(self, name) not in table:
                raise unknown(name, getattr(self, name), table)
        if self.choose not in CHOICES:
            raise unknown("choice of a memory", self.choose, CHOICES)
        if self.size < 1 or self.keep < 0:
            raise InputError(
                f"a memory holds one image or more; got size={self.size}, keep={self.keep}"
            )
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature must be above 0; got {self.temperature}")

    @property
    def kept(self) -> int:
        return self.keep or self.size

    def fits(self, count: int) -> None:
        """Raises InputError for a memory that is larger than a training set of `count` images."""
        for name, asked in (("size", self.size), ("keep", self.kept)):
            if asked > count:
                raise InputError(
                    f"a memory of {asked:,} images was requested, but there are {count:,} to "
                    "train on; ask for a smaller one, such as --head "
                    f"memory_wrap,{name}={max(1, count // 2)}"
                )


def cosine(q: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"]) -> Float[Tensor, "B M"]:
    return _dot(normalize(q, eps=1e-3), normalize(memory, dim=-1, eps=1e-3))


def euclidean(q: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"]) -> Float[Tensor, "B M"]:
    return 2 * _dot(q, memory) - q.square().sum(1, keepdim=True) - memory.square().sum(-1)


def _dot(q: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"]) -> Float[Tensor, "B M"]:
    return q @ memory.T if memory.ndim == 2 else (memory @ q[:, :, None])[:, :, 0]


def sparsemax(z: Float[Tensor, "... M"]) -> Float[Tensor, "... M"]:
    """The nearest probabilities to z, most of them 0.

    Martins & Astudillo, 2016 (eq. 4, algorithm 1). arXiv:1602.02068
    """
    z = z - z.amax(-1, keepdim=True)
    with torch.no_grad():
        ordered, count = _descending(z)
        total = ordered.cumsum(-1)
        size = (1 + count * ordered > total).sum(-1, keepdim=True)
        held = z > (total.gather(-1, size - 1) - 1) / size
    level = ((z * held).sum(-1, keepdim=True) - 1) / held.sum(-1, keepdim=True)
    return (z - level).clamp_min(0) * held


def entmax(z: Float[Tensor, "... M"]) -> Float[Tensor, "... M"]:
    """Between softmax and sparsemax: 1.5-entmax.

    Peters, Niculae, Martins, 2019 (algorithm 2). arXiv:1905.05702
    """
    z = (z - z.amax(-1, keepdim=True)) / 2
    with torch.no_grad():
        ordered, count = _descending(z)
        mean, square = ordered.cumsum(-1) / count, ordered.square().cumsum(-1) / count
        level = mean - ((1 - count * (square - mean.square())) / count).clamp_min(0).sqrt()
        size = (level <= ordered).sum(-1, keepdim=True)
        held = z > level.gather(-1, size - 1)
    count = held.sum(-1, keepdim=True)
    mean = (z * held).sum(-1, keepdim=True) / count
    spread = ((z - mean).square() * held).sum(-1, keepdim=True)
    level = mean - ((1 - spread) / count).clamp_min(1e-12).sqrt()
    return (z - level).clamp_min(0).square() * held


def _descending(z: Float[Tensor, "... M"]) -> tuple[Float[Tensor, "... M"], Float[Tensor, " M"]]:
    """(z from the highest, 1 to M)."""
    return z.sort(-1, descending=True).values, torch.arange(
        1, z.shape[-1] + 1, device=z.device, dtype=z.dtype
    )


SIMILARITIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cosine": cosine,
    "euclidean": euclidean,
    "dot": _dot,
}
WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "sparsemax": sparsemax,
    "entmax": entmax,
    "softmax": lambda z: z.softmax(-1),
}


class Attentive(nn.Module):
    """A head that looks at a memory of features `[M,D]`, or one of its own for each example
    `[B,M,D]`; without one, at the memory `held [kept,D]`.

    The closing perceptron sees the weighted mean of the memory, with the features before it where
    `both`; its hidden layer is twice as wide.
    """

    held: Tensor

    def __init__(self, dim: int, classes: int, how: Attention, both: bool):
        super().__init__()
        self.how, self.both = how, both
        wide = 2 * dim if both else dim
        self.perceptron = nn.Sequential(
            nn.Linear(wide, 2 * wide), nn.ReLU(), nn.Linear(2 * wide, classes)
        )
        self.warmth = nn.Parameter(
            torch.tensor(math.log(how.temperature)), requires_grad=how.learned
        )
        self.register_buffer("held", torch.zeros(how.kept, dim))
        self.register_load_state_dict_pre_hook(_resized)

    def forward(
        self, features: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"] | None = None
    ) -> Tensor:
        return self.answer(features, memory)[0]

    def answer(
        self, features: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"] | None = None
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B M"]]:
        """(logits, weights of the memory's images, which sum to 1)."""
        memory = self.held if memory is None else memory
        weights = self.look(features, memory)
        recalled = (
            weights @ memory.float()
            if memory.ndim == 2
            else (weights[:, None] @ memory.float())[:, 0]
        )
        recalled = recalled.to(features.dtype)
        return self.perceptron(
            torch.cat([features, recalled], 1) if self.both else recalled
        ), weights

    def look(
        self, features: Float[Tensor, "B D"], memory: Float[Tensor, "... M D"]
    ) -> Float[Tensor, "B M"]:
        """The weights, in single precision: which of them are 0 hangs on small differences."""
        with torch.autocast(features.device.type, enabled=False):
            return self.weigh(SIMILARITIES[self.how.similarity](features.float(), memory.float()))

    def weigh(self, similar: Float[Tensor, "... M"]) -> Float[Tensor, "... M"]:
        """Weights from similarities."""
        return WEIGHTS[self.how.weights](similar / self.warmth.exp())


def _resized(head: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """Before weights are loaded: a memory of another size is taken as it is."""
    assert isinstance(head, Attentive)
    held = state.get(prefix + "held")
    if held is not None and held.shape[1:] == head.held.shape[1:]:
        head.held = head.held.new_zeros(held.shape)


def attentive(model: nn.Module) -> Attentive | None:
    """The head of a model that looks at a memory, None of another."""
    head = getattr(model, "head", None)
    return head if isinstance(head, Attentive) else None
