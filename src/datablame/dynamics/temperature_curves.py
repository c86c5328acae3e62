"""Temperature curves: each example's temperature at each epoch relative to its class.

Saxena, Tuzel, DeCoste, 2019.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datablame.base.errors import InputError, unknown
from datablame.base.hashing import turns
from datablame.base.readers import LOST, Damaged
from datablame.base.shapes import Float, Int
from datablame.data.subset import Subset
from datablame.run import Run

LAST = 0.1
"""Share of the epochs whose mean is where a curve ends: one epoch alone is noisy."""
KINDS = ("log", "raw")


def after(run: Run, epoch: int) -> Float[Tensor, " N"]:
    """Logarithms of the temperatures after an epoch, counted from 1; 0: the last.

    Raises InputError for one that was not recorded.
    """
    epochs = run.trace.epochs
    if not 0 <= epoch <= epochs:
        raise InputError(f"epoch {epoch} was not recorded; {run.path} has 1 to {epochs}")
    return _log(run, (epoch or epochs) - 1)


def _log(run: Run, which: Any) -> Float[Tensor, "..."]:
    """Logarithms of the temperatures at an index of `[T,N]`. Raises Damaged where there is none."""
    values = torch.from_numpy(run.trace["temperature"][which].astype("float32"))
    if not ((values > 0) & (values < torch.inf)).all():
        path = run.trace.folder / "temperature.npy"
        raise Damaged(path, "a temperature that is not a positive number", LOST)
    return values.log()


def coolest(run: Run, subset: Subset) -> Int[Tensor, " n"]:
    """Rows of the subset, in their order.

    Raises InputError where nothing would be left of a class.
    """
    labels, classes = run.data.labels, run.data.classes
    counts = labels.bincount(minlength=len(classes))
    order = after(run, subset.epoch).argsort(stable=True)
    if subset.within == "set":
        kept = order[: round(subset.keep * len(order))]
    else:
        kept = order[turns(labels[order]) < (subset.keep * counts[labels[order]]).round()]
    left = labels[kept].bincount(minlength=len(classes))
    if lost := [classes[k] for k in ((counts > 0) & (left == 0)).nonzero()[:, 0].tolist()]:
        raise InputError(
            f"keeping {subset.keep:g} of the {subset.within} leaves no image of "
            f"{', '.join(lost[:5])}; keep more, or take the share --within class"
        )
    return kept.sort().values


def medians(run: Run) -> Float[Tensor, "T K"]:
    """The median logarithm of temperature of each class at each epoch, kept once it is known."""
    return torch.from_numpy(run.keep("class_medians", lambda: _sorted_out(run).numpy()).copy())


def _sorted_out(run: Run) -> Float[Tensor, "T K"]:
    """The medians: rows in order of temperature, then of class, and the middle one of each
    class.
    """
    labels = run.data.labels
    counts = labels.bincount(minlength=len(run.data.classes))
    middle = (counts.cumsum(0) - counts + (counts - 1).clamp_min(0) // 2).clamp_max(len(labels) - 1)
    found = torch.empty(run.trace.epochs, len(counts))
    for epoch in range(run.trace.epochs):
        values = _log(run, epoch)
        order = values.argsort(stable=True)
        order = order[labels[order].argsort(stable=True)]
        found[epoch] = values[order][middle]
    return found


def relative_to_class(run: Run, rows: Int[Tensor, " n"]) -> Float[Tensor, "T n"]:
    """Logarithms of the temperatures of some examples minus the median of their class."""
    values = _log(run, (slice(None), rows.numpy()))
    return values - medians(run)[:, run.data.labels[rows]]


def curves(run: Run, rows: Int[Tensor, " n"], kind: str = "log") -> Float[Tensor, "T n"]:
    """The curves of some examples: `log`, relative to their class; or `raw`, temperatures as they
    are.

    Raises InputError for another kind.
    """
    if kind not in KINDS:
        raise unknown("kind of curves", kind, KINDS)
    if kind == "log":
        return relative_to_class(run, rows)
    return _log(run, (slice(None), rows.numpy())).exp()


@dataclass(frozen=True, eq=False)
class _Shape:
    """Each example's curve relative to its class: its mean over all epochs, its highest point and
    its end (both means over a tenth of the epochs).
    """

    mean: Float[Tensor, " N"]
    peak: Float[Tensor, " N"]
    end: Float[Tensor, " N"]


def shape(run: Run) -> _Shape:
    """Read in one pass over the epochs."""
    middle, labels, epochs = medians(run), run.data.labels, run.trace.epochs
    window = max(1, round(LAST * epochs))
    passing: list[Tensor] = []
    mean, peak = torch.zeros(len(labels)), torch.full((len(labels),), -torch.inf)
    for epoch in range(epochs):
        passing = [*passing, _log(run, epoch) - middle[epoch, labels]][-window:]
        mean += passing[-1] / epochs
        if len(passing) == window:
            peak = torch.maximum(peak, functools.reduce(torch.add, passing) / window)
    return _Shape(mean, peak, functools.reduce(torch.add, passing) / window)
