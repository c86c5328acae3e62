"""Predictions and features that people have already, as they are checked before they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int

SURE = 4.0
"""Standard errors beyond which an agreement is no chance."""


def tensor(values: Any) -> Tensor:
    """Numbers of numpy, pandas, torch or lists as a tensor of their own.

    Raises InputError for anything else.
    """
    try:
        return (
            values.detach().cpu()
            if isinstance(values, Tensor)
            else torch.as_tensor(np.asarray(values))
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"an array of numbers was expected: {error}") from None


def probabilities(values: Any, count: int) -> Float[Tensor, "N K"]:
    """Predictions as probabilities. Raises InputError where they are none for so many labels."""
    p = tensor(values).float()
    if p.ndim != 2 or len(p) != count or p.shape[1] < 2:
        raise InputError(
            f"pred_probs must be [N,K] for {count} labels, K at least 2; these are {list(p.shape)}"
        )
    if not torch.isfinite(p).all() or (p < 0).any() or (p.sum(1) - 1).abs().max() > 1e-2:
        row = int(((p.sum(1) - 1).abs().nan_to_num(9) + 9 * (p < 0).any(1)).argmax())
        raise InputError(
            f"pred_probs must be probabilities that sum to 1 in each row; row {row} is "
            f"{p[row].tolist()[:5]}"
        )
    return p


def space(values: Any, count: int) -> np.ndarray:
    """Features `[N,D]` that float16 can hold, which ends at 65,504. Raises InputError where they
    are not finite, or not those of so many labels.
    """
    features = tensor(values).float()
    if features.ndim != 2 or len(features) != count or not features.isfinite().all():
        raise InputError(
            f"features must be finite [N,D] for {count} labels; these are {list(features.shape)}"
        )
    return (features / max(1.0, float(features.abs().max()) / 6e4)).numpy()


def check_order(p: Float[Tensor, "N K"], labels: Int[Tensor, " N"], classes: Sequence[str]) -> None:
    """Raises InputError where the columns are those of other classes: the likeliest class is the
    given one less often than by chance, or twice as often if the columns are permuted.
    """
    from scipy.optimize import linear_sum_assignment

    rows, width = p.shape
    counts = torch.bincount(labels * width + p.argmax(1), minlength=width**2).view(width, width)
    best = int(counts.numpy()[linear_sum_assignment(-counts.numpy())].sum())
    agree, chance = int(counts.trace()), rows / width
    permuted = best > 2 * agree and best > chance + SURE * rows**0.5
    if permuted or agree < chance - SURE * chance**0.5:
        named = ", ".join([*classes[:3], "..."] if width > 3 else classes)
        raise InputError(
            "pred_probs and labels do not belong together: the likeliest class is the given one "
            f"for {agree:,} of {rows:,}, and for {best:,} if the columns are put otherwise; they "
            f"must be in that of the classes ({named}), and rows in that of the labels"
        )
