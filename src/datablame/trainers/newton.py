"""The head of a frozen encoder fitted to its optimum by Newton's method, along a path of falling decay. Friedman, Hastie, Tibshirani, 2010 (paths)"""

from __future__ import annotations

import torch

from datablame.classifier import Classifier, build
from datablame.dataset import Dataset
from datablame.evidence.encoded import encoded, still
from datablame.evidence.optimum import Basis, Problem, optimum, theta_of, through
from datablame.evidence.training import Progress, optimizer_of
from datablame.ground import clock, world
from datablame.ground.errors import InputError
from datablame.recipe import Recipe
from datablame.run import Run


def newton(run: Run) -> Classifier:
    """The optimum of the softmax-linear head of a frozen encoder; each epoch is a decay, from one that leaves little but the biases to the recipe's."""
    recipe, data = run.recipe, run.data
    model = build(recipe, data)
    progress = Progress(run, [(model, optimizer_of(model, recipe))])
    problem = Problem.of(run, encoded(model, data))
    with clock.stage("basis"):
        basis = Basis.of(problem)
    strong, head = float(basis.size[-1]), model.head
    assert isinstance(head, torch.nn.Linear)  # `suits` saw to it
    ticker = clock.Ticker(recipe.epochs - progress.done, "fitting", "decays")
    for epoch in range(progress.done, recipe.epochs):
        left = 1 - (epoch + 1) / recipe.epochs
        eased = problem.but(decay=strong**left * problem.decay ** (1 - left))
        theta = optimum(eased, theta_of(head)[None], basis)
        with torch.no_grad():
            head.weight.copy_(theta[0, :, :-1])
            head.bias.copy_(theta[0, :, -1])
        for rows, x in problem.blocks():
            progress.recorder.put(rows, through(x, theta)[:, 0], data.labels[rows].to(x.device))
        progress.close(epoch, eased.gradient(theta)[0] / world.size(), model)
        ticker.tick(f"{epoch + 1} of {recipe.epochs}")
    ticker.close()
    return model


def suits(recipe: Recipe, data: Dataset, model: Classifier) -> None:
    """Raises InputError where the encoder trains, the head is not linear, or images would be changed at random."""
    if not still(model) or not isinstance(model.head, torch.nn.Linear):
        raise InputError(
            "newton fits the linear head of a frozen encoder; ask for --model frozen:resnet50 and --head linear"
        )
    if recipe.augment != "none":
        raise InputError(
            f"newton looks at each image once and cannot change it at random; ask for --augment none instead of {recipe.augment}"
        )


newton.suits = suits  # type: ignore[attr-defined]  # asked before a run is made
