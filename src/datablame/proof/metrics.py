"""How well a ranking finds the labels that are known to be wrong."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from datablame.ground.errors import InputError

NAMES = ("roc_auc", "average_precision", "fnr_at_noise_rate", "found_at_10", "found_at_20")


def metrics(values: Float[Tensor, " N"], wrong: Bool[Tensor, " N"]) -> dict[str, float]:
    """ROC-AUC and average precision; the false-negative rate when as many are inspected as are wrong; the share of the wrong
    found when the most suspect 10 % and 20 % are inspected.

    Raises InputError where no label is wrong, or every one: nothing can be ranked then.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    bad = int(wrong.sum())
    if bad in (0, len(wrong)):
        raise InputError(
            f"{'no label is' if not bad else 'every label is'} wrong by the truth: a ranking cannot be measured"
        )
    order = wrong[values.argsort(descending=True, stable=True)].float()

    def found(count: int) -> float:
        return order[:count].sum().item() / bad

    return {
        "roc_auc": float(roc_auc_score(wrong.numpy(), values.numpy())),
        "average_precision": float(average_precision_score(wrong.numpy(), values.numpy())),
        "fnr_at_noise_rate": 1 - found(bad),
        "found_at_10": found(round(len(wrong) * 0.1)),
        "found_at_20": found(round(len(wrong) * 0.2)),
    }


def wrong_labels(labels: Tensor, truth: Tensor | None) -> Bool[Tensor, " N"]:
    """Where the given label is not the true one. Raises InputError where the truth is not known."""
    if truth is None:
        raise InputError("the truth is not known here; name its column with --truth, or plant noise with --noise")
    return torch.as_tensor(labels != truth)
