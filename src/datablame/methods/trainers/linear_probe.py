"""A linear probe: the head of a frozen encoder at its optimum, along a path of falling weight
decay.

Friedman, Hastie, Tibshirani, 2010 (regularisation paths); by truncated Newton steps.

Formula: `min_theta mean_n -log softmax(theta f_n)_y + decay |theta|^2 / 2`.
When: there is an encoder that knows such pictures (`--model frozen:...`): seconds in place of
hours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from datablame.base import processes, progress
from datablame.base.errors import InputError
from datablame.dataset import Dataset
from datablame.inference.features import encoded, is_frozen
from datablame.linear_probe.optimum import Basis, Problem, optimum, theta_of, through
from datablame.network.classifier import Classifier, build
from datablame.optimization.optimizers import optimizer
from datablame.optimization.state import TrainingState
from datablame.optimization.trainer import Trainer
from datablame.recipe import Recipe
from datablame.run import Run


@dataclass(frozen=True)
class linear_probe(Trainer):
    """The optimum of the softmax-linear head of a frozen encoder.

    Each epoch is a weight decay, from one that leaves little but the biases down to the recipe's.
    """

    leaves = (
        "optimizer", "decays", "momentum", "warmup", "label_smoothing", "accumulate", "batch_norm"
    )  # fmt: skip

    def suits(self, recipe: Recipe, data: Dataset, model: Classifier) -> None:
        if not is_frozen(model) or not isinstance(model.head, torch.nn.Linear):
            raise InputError(
                "linear_probe fits the linear head of a frozen encoder; use --model "
                "frozen:resnet50 and --head linear"
            )
        if recipe.augment != "none":
            raise InputError(
                "linear_probe looks at each image once and cannot augment it; "
                f"use --augment none instead of {recipe.augment}"
            )

    def fit(self, run: Run) -> Classifier:
        recipe, data = run.recipe, run.data
        model = build(recipe, data)
        state = TrainingState(run, [(model, optimizer(model, recipe))])
        problem = Problem.of(run, encoded(model, data))
        with progress.stage("basis"):
            basis = Basis.of(problem)
        strong, head = float(basis.size[-1]), model.head
        assert isinstance(head, torch.nn.Linear)  # `suits` saw to it
        ticker = progress.Ticker(recipe.epochs - state.done, "fitting", "decays")
        for epoch in range(state.done, recipe.epochs):
            left = 1 - (epoch + 1) / recipe.epochs
            eased = problem.but(weight_decay=strong**left * problem.weight_decay ** (1 - left))
            before = theta_of(head)[None] if epoch else None  # the head itself begins at random
            theta = optimum(eased, before, basis)
            with torch.no_grad():
                head.weight.copy_(theta[0, :, :-1])
                head.bias.copy_(theta[0, :, -1])
            for rows, x in problem.blocks():
                state.recorder.put(rows, through(x, theta)[:, 0], data.labels[rows].to(x.device))
            state.close(epoch, eased.gradient(theta)[0] / processes.size(), model)
            ticker.tick(f"{epoch + 1} of {recipe.epochs}")
        ticker.close()
        return model
