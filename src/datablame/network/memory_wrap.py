"""Memory Wrap in your own training loop.

La Rosa, Capobianco, Nardi, 2021. arXiv:2106.01440
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from datablame.attention.head import Attentive
from datablame.base import methods
from datablame.base.errors import InputError, at_least
from datablame.base.shapes import Float


class MemoryWrap(nn.Module):
    """Any encoder `[B,...] -> [B,D]` under a head that answers by pointing at images of a memory.

        model = datablame.MemoryWrap(encoder, classes=10) logits = model(images, memory)
        # memory: some training images, drawn anew at each step cross_entropy(logits,
        labels).backward() model.remember(images_to_answer_by)         # once trained; state_dict
        keeps what it saw of them logits, weights = model.eval().explain(images)

    `head=memory` is the baseline, which sees the memory alone; more words are options of
    `memory_wrap` (size=..., weights="entmax"). Raises InputError where the number of features
    cannot be told: give `dim`.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: int,
        dim: int | None = None,
        head: str = "memory_wrap",
        **options: Any,
    ):
        super().__init__()
        at_least(2, classes=classes)
        dim = dim or getattr(encoder, "dim", None)
        if not isinstance(dim, int):
            raise InputError(
                f"how many features {type(encoder).__name__} gives is not known; say it: "
                f"MemoryWrap(encoder, {classes}, dim=512)"
            )
        self.encoder = encoder
        self.head: Attentive = methods.find(
            "heads", ",".join([head, *(f"{k}={v}" for k, v in options.items())])
        )(dim, classes)

    def forward(
        self, images: Float[Tensor, "B ..."], memory: Float[Tensor, "M ..."] | None = None
    ) -> Float[Tensor, "B K"]:
        """Logits by this memory of images, encoded in one batch with the others; without one, by
        what the model remembers.
        """
        return self.explain(images, memory)[0]

    def explain(
        self, images: Float[Tensor, "B ..."], memory: Float[Tensor, "M ..."] | None = None
    ) -> tuple[Float[Tensor, "B K"], Float[Tensor, "B M"]]:
        """(logits, the weight of each of the memory's images, which sum to 1)."""
        if memory is None and not self.head.held.any():
            raise InputError(
                "this model remembers nothing yet; give it a memory: model(images, "
                "memory), or call remember"
            )
        if memory is not None and not len(memory):
            raise InputError("a memory needs at least one image; got none")
        if memory is not None and memory.shape[1:] != images.shape[1:]:
            raise InputError(
                f"the memory's images are {list(memory.shape[1:])}, the others "
                f"{list(images.shape[1:])}; bring them to one size"
            )
        seen = self.encoder(images if memory is None else torch.cat([images, memory]))
        if seen.ndim != 2 or seen.shape[1] != self.head.held.shape[1]:
            raise InputError(
                f"the encoder must give [B,{self.head.held.shape[1]}] features; it gave "
                f"{list(seen.shape)}"
            )
        return self.head.answer(
            seen[: len(images)], None if memory is None else seen[len(images) :]
        )

    @torch.no_grad()
    def remember(self, memory: Float[Tensor, "M ..."]) -> None:
        """Keep what the encoder makes of these images, in eval mode: from now on the memory where
        none is given.
        """
        if not len(memory):
            raise InputError("a memory needs at least one image; got none")
        modes = [(part, part.training) for part in self.modules()]
        self.eval()
        self.head.held = self.encoder(memory).float()
        for part, mode in modes:
            part.training = mode
