"""Passes of a trained model over a set: features, probabilities, and probabilities by models that did not see the example."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from datablame.classifier import Classifier, build
from datablame.dataset import Dataset
from datablame.evidence.schedules import schedule
from datablame.evidence.sweep import sweep
from datablame.evidence.training import fit, kept_epochs
from datablame.ground import clock, draw, store, world
from datablame.ground.errors import InputError
from datablame.run import Run


def probabilities(run: Run, data: Dataset, name: str) -> np.ndarray:
    """float32 [n,K], memory-mapped as `<name>.npy`: the model's probabilities of each class, mean over an image and its
    mirror image where the recipe mirrors in training."""
    path = run.path / f"{name}.npy"
    if world.agree(path.exists()):
        return np.load(path, mmap_mode="r")
    model, mirror = run.model, "flip" in run.recipe.augment

    def read(images: Tensor) -> Tensor:
        p = model(images).softmax(1)
        return (p + model(images.flip(3)).softmax(1)) / 2 if mirror else p

    with clock.stage(f"predict {name.partition('_')[0]}"):
        return store.fill(path, (len(data), len(data.classes)), "float32", sweep(model, data, read, "predicting"))


def on_train(run: Run) -> np.ndarray:
    """Probabilities [N,K] of the training examples."""
    return probabilities(run, run.data, "probabilities")


def given(run: Run) -> Float[Tensor, " N"]:
    """Probability of its label for each training example."""
    return torch.from_numpy(np.array(on_train(run))).gather(1, run.data.labels[:, None])[:, 0]


def on_test(run: Run) -> np.ndarray:
    """Probabilities [n,K] of the test examples. Raises InputError where the run has none."""
    if run.test is None:
        raise InputError(f"{run.path} has no test split")
    return probabilities(run, run.test, "test_probabilities")


def accuracy(run: Run) -> float | None:
    """Share of the test examples that the model gets right, kept in run.json; None without a test split."""
    if world.agree(run.about["test_accuracy"] is None) and run.test is not None:
        right = torch.from_numpy(np.array(on_test(run))).argmax(1) == run.test.labels
        results(run, run.test)
        run.change(test_accuracy=round(right.float().mean().item(), 5))
    return run.about["test_accuracy"]


def results(run: Run, test: Dataset) -> None:
    """test_results.csv: of each test image the loss in nats, the prediction, its probability, and the label."""
    p = torch.from_numpy(np.array(on_test(run)))
    confidence, prediction = p.max(1)
    classes = np.array(test.classes, dtype=object)
    columns = {
        "index": np.arange(len(test)),
        "name": test.names,
        "loss": -p.gather(1, test.labels[:, None])[:, 0].clamp_min(1e-30).log().numpy(),
        "prediction": classes[prediction.numpy()],
        "confidence": confidence.numpy(),
        "label": classes[test.labels.numpy()],
    }
    store.write_csv(run.path / "test_results.csv", columns)


def checkpoints(run: Run) -> list[tuple[float, Classifier]]:
    """(sum of the learning rates of the epochs since the checkpoint before, an epoch counting once; the model then), in order.

    Raises InputError where the run kept none.
    """
    from safetensors.torch import load_file

    recipe = run.recipe
    epochs = kept_epochs(recipe.checkpoints, recipe.epochs)
    if not epochs:
        raise InputError(f"{run.path} kept no checkpoints; train with --checkpoints 5")
    rate_at = schedule(recipe.schedule)
    rates = [recipe.rate * rate_at((epoch + 0.5) / recipe.epochs) for epoch in range(recipe.epochs)]
    found = []
    for before, epoch in zip([-1, *epochs], epochs, strict=False):
        model = build(recipe, run.data)
        model.load_state_dict(load_file(run.path / "checkpoints" / f"{epoch}.safetensors"))
        found.append((sum(rates[before + 1 : epoch + 1]), model.eval()))
    return found


def has_features(run: Run) -> bool:
    """Are there features, or a model that would make them?"""
    return (run.path / "features.npy").exists() or (run.path / "model.safetensors").exists() or run.own


def has_heldout(run: Run) -> bool:
    """Are there held-out probabilities, or would the recipe make them?"""
    return run.recipe.folds > 1 or (run.path / "heldout.npy").exists()


def heldout(run: Run) -> np.ndarray:
    """float32 [N,K]: probabilities of each example by a model that did not train on it, from `folds` models.

    Raises InputError where the recipe has no folds and no such probabilities were given.
    """
    path = run.path / "heldout.npy"
    if world.agree(path.exists()):
        return np.load(path, mmap_mode="r")
    if not has_heldout(run):
        raise InputError(
            f"{run.path} has no held-out probabilities; train with --folds 4, or give them to Run.from_predictions"
        )
    whole = np.zeros((len(run.data), len(run.data.classes)), "float32")
    if run.recipe.folds > len(run.data) // 2:
        raise InputError(
            f"{run.recipe.folds} folds of {len(run.data)} examples leave too few in each; ask for fewer with --folds"
        )
    for fold, rows in enumerate(parts(run.data, run.recipe.folds, run.recipe.seed)):
        rest = torch.ones(len(run.data), dtype=torch.bool)
        rest[rows] = False
        recipe = run.recipe.but(folds=0, seed=draw.seed_of("fold", run.recipe.seed, fold) % 2**31)
        sub = Run.create(
            run.data.take(rest.nonzero()[:, 0]), recipe, run.data.take(rows), run.path / "folds", str(fold)
        )
        if not sub.finished:
            clock.say(f"held-out predictions: model {fold + 1} of {run.recipe.folds}")
        fit(sub)
        whole[rows.numpy()] = on_test(sub)
    return store.keep(path, lambda: whole)


def parts(data: Dataset, folds: int, seed: int) -> list[Tensor]:
    """Rows of each fold, every class spread evenly over the folds."""
    order = torch.cat(
        [
            (data.labels == k).nonzero()[:, 0][draw.permutation(int((data.labels == k).sum()), "folds", seed, k)]
            for k in range(len(data.classes))
        ]
    )
    return [order[fold::folds].sort().values for fold in range(folds)]
