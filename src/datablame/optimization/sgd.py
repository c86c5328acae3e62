"""Stochastic gradient descent with Nesterov momentum (Sutskever et al., 2013), weight decay on
matrices and filters only.

torch's own fused step without its class, whose first use imports torch._dynamo: one to two seconds
of every command that trains.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from datablame.recipe import Recipe


class SGD:
    """The optimizer of a model; `lr` may be set before each step."""

    def __init__(self, model: nn.Module, recipe: Recipe):
        self.lr, self.momentum = recipe.lr, recipe.momentum
        self.momenta: dict[Tensor, Tensor] = {}
        every = [p for p in model.parameters() if p.requires_grad]
        self.param_groups: list[dict[str, Any]] = [  # the name that torch.amp.GradScaler asks for
            {"params": [p for p in every if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in every if p.ndim <= 1], "weight_decay": 0.0},
        ]

    @property
    def weights(self) -> list[Tensor]:
        """All that it changes, in a fixed order."""
        return [weight for group in self.param_groups for weight in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step down the gradients; weights that have none stay."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            momenta = [self.momenta.get(weight) for weight in weights]
            sgd(
                weights,
                [weight.grad for weight in weights],
                momenta,
                fused=True,
                weight_decay=group["weight_decay"],
                momentum=self.momentum,
                lr=self.lr,
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
            )
            made = zip(weights, momenta, strict=True)
            self.momenta |= {weight: kept for weight, kept in made if kept is not None}
