"""Forgetting events. Toneva et al., 2019. arXiv:1812.05159"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from datablame.run import Run


def forgetting(run: Run) -> Float[Tensor, " N"]:
    """How often an example goes from right to wrong; one never right counts as forgotten at every epoch."""

    def events(guess: Float[Tensor, "T n"], start: int) -> Float[Tensor, " n"]:
        right = guess == run.data.labels[start : start + guess.shape[1]]
        forgotten = (right[:-1] & ~right[1:]).sum(0).float()
        return torch.where(right.any(0), forgotten, float(len(right)))

    done = 0

    def block(guess: Float[Tensor, "T n"]) -> Float[Tensor, " n"]:
        nonlocal done
        done += guess.shape[1]
        return events(guess, done - guess.shape[1])

    return run.trace.reduce("guess", block)
