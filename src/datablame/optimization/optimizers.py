"""Steps down gradients: stochastic gradient descent with momentum (Polyak, 1964; Nesterov's in the
form of Sutskever et al., 2013), Adam (Kingma, Ba, 2015. arXiv:1412.6980) and AdamW, whose decay of
weights is apart from the gradient (Loshchilov, Hutter, 2019. arXiv:1711.05101).

torch's own fused steps without their classes, whose first use imports torch._dynamo: one to two
seconds of every command that trains.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as adam_step
from torch.optim.sgd import sgd as sgd_step

from datablame.base.errors import unknown
from datablame.base.methods import cast, parse
from datablame.recipe import Recipe


class Optimizer(ABC):
    """Changes the weights of a model; `lr` may be set before each step. `kept` is what it keeps of
    each weight from step to step, by name.
    """

    usual: ClassVar[float] = 0.1
    """Peak learning rate where none is named."""

    def __init__(self, model: nn.Module, recipe: Recipe):
        self.lr, self.momentum = recipe.lr, recipe.momentum
        self.kept: dict[str, dict[Tensor, Tensor]] = {}
        every = [p for p in model.parameters() if p.requires_grad]
        decayed = [p.ndim > 1 or recipe.decays == "all" for p in every]
        self.param_groups: list[dict[str, Any]] = [  # the name that torch.amp.GradScaler asks for
            {
                "params": [p for p, yes in zip(every, decayed, strict=True) if yes is so],
                "weight_decay": recipe.weight_decay if so else 0.0,
            }
            for so in (True, False)
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
            if weights:
                self.move(weights, [weight.grad for weight in weights], group["weight_decay"])

    @abstractmethod
    def move(self, weights: list[Tensor], slopes: list[Tensor], decay: float) -> None:
        """Change some weights, by their gradients."""


class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    def __init__(self, model: nn.Module, recipe: Recipe, nesterov: bool = True):
        super().__init__(model, recipe)
        self.nesterov = nesterov and self.momentum > 0

    def move(self, weights: list[Tensor], slopes: list[Tensor], decay: float) -> None:
        home = self.kept.setdefault("momentum", {})
        momenta = [home.get(weight) for weight in weights]
        sgd_step(
            weights,
            slopes,
            momenta,
            fused=True,
            weight_decay=decay,
            momentum=self.momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=self.nesterov,
            maximize=False,
        )
        made = zip(weights, momenta, strict=True)
        home |= {weight: kept for weight, kept in made if kept is not None}


class Adam(Optimizer):
    """Steps of the mean gradient over the root of its mean square; `momentum` is that of the mean,
    `beta2` that of the square. The decay is part of the gradient.
    """

    usual, apart = 1e-3, False

    def __init__(self, model: nn.Module, recipe: Recipe, beta2: float = 0.999):
        super().__init__(model, recipe)
        self.beta2 = beta2

    def move(self, weights: list[Tensor], slopes: list[Tensor], decay: float) -> None:
        for name in ("mean", "square", "steps"):
            home = self.kept.setdefault(name, {})
            for weight in weights:
                if weight not in home:
                    home[weight] = (
                        torch.zeros((), device=weight.device)
                        if name == "steps"
                        else torch.zeros_like(weight)
                    )
        mean, square, steps = (
            [self.kept[name][weight] for weight in weights] for name in ("mean", "square", "steps")
        )
        adam_step(
            weights,
            slopes,
            mean,
            square,
            [],
            steps,
            fused=True,
            decoupled_weight_decay=self.apart,
            amsgrad=False,
            beta1=self.momentum,
            beta2=self.beta2,
            lr=self.lr,
            weight_decay=decay,
            eps=1e-8,
            maximize=False,
        )


class AdamW(Adam):
    """Adam whose decay is apart from the gradient."""

    apart = True


OPTIMIZERS: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def kind_of(recipe: Recipe) -> tuple[type[Optimizer], dict[str, Any]]:
    """(the optimizer of a recipe, its options). Raises InputError for another."""
    name, options = parse(recipe.optimizer)
    if name not in OPTIMIZERS:
        raise unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name], cast(OPTIMIZERS[name], name, options)


def optimizer(model: nn.Module, recipe: Recipe) -> Optimizer:
    """What changes the weights of a model, as its recipe says."""
    kind, options = kind_of(recipe)
    return kind(model, recipe, **options)
