"""Passes of a trained model over a set: features, probabilities, and probabilities by models that
did not see the example.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, files, processes, progress, tables
from datablame.base.errors import InputError
from datablame.base.readers import read_array
from datablame.base.shapes import Float
from datablame.dataset import Dataset
from datablame.inference.features import is_frozen, spoken
from datablame.inference.sweep import sweep
from datablame.run import Run


def probabilities(run: Run, data: Dataset) -> np.ndarray:
    """float32 `[n,K]`, memory-mapped, computed once for each set: the model's probabilities of each
    class.

    The mean over an image and its mirror image where the recipe mirrors in training.
    """
    known = {run.data.fingerprint: "probabilities"} | (
        {run.test.fingerprint: "test_probabilities"} if run.test else {}
    )
    name = known.get(data.fingerprint, f"probabilities-{data.fingerprint}")
    path, shape = run.path / f"{name}.npy", (len(data), len(data.classes))
    if files.sound(path, read := lambda path: read_array(path, shape, "float32", finite=True)):
        return read(path)
    model, mirror = run.model, "flip" in run.recipe.augment

    def said(images: Tensor) -> Tensor:
        p = model(images).softmax(1)
        return (p + model(images.flip(3)).softmax(1)) / 2 if mirror else p

    with progress.stage("predict"):
        if is_frozen(model) and not mirror:
            return arrays.fill(path, shape, "float32", spoken(model, data))
        return arrays.fill(path, shape, "float32", sweep(model, data, said, "predicting"))


def _on_train(run: Run) -> np.ndarray:
    """Probabilities [N,K] of the training examples."""
    return probabilities(run, run.data)


def given(run: Run) -> Float[Tensor, " N"]:
    """Probability of its label for each training example."""
    return torch.from_numpy(np.array(_on_train(run))).gather(1, run.data.labels[:, None])[:, 0]


def on_test(run: Run) -> np.ndarray:
    """Probabilities [n,K] of the test examples. Raises InputError where the run has none."""
    if run.test is None:
        raise InputError(f"{run.path} has no test split")
    return probabilities(run, run.test)


def accuracy(run: Run) -> float | None:
    """Share of the test examples that the model gets right, kept in run.json; None without a test
    split.
    """
    if processes.agree(run.about["test_accuracy"] is None) and run.test is not None:
        right = torch.from_numpy(np.array(on_test(run))).argmax(1) == run.test.labels
        results(run, run.test)
        run.change(test_accuracy=round(right.float().mean().item(), 5))
    return run.about["test_accuracy"]


def results(run: Run, test: Dataset) -> None:
    """test_results.csv: of each test image the loss in nats, the prediction, its probability, and
    the label.
    """
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
    tables.write_csv(run.path / "test_results.csv", columns)


def has_features(run: Run) -> bool:
    """Are there features, or a model that would make them?"""
    path = run.with_model.path
    return (path / "features.npy").exists() or (path / "model.safetensors").exists() or run.own
