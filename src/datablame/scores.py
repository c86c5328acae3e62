"""Scores: suspicion of every training example. Higher is more suspect."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import torch
from torch import Tensor

from datablame.base.errors import InputError, RunError
from datablame.base.results import Result
from datablame.base.shapes import Float


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Result):
    """`values [N]`, finite, in the order of the dataset; `name` is the spec of the signal."""

    name: str
    values: Float[Tensor, " N"]

    def __post_init__(self) -> None:
        bad = ~self.values.isfinite()
        if bad.any():
            raise RunError(
                f"'{self.name}' is not finite for {int(bad.sum())} examples, the first at "
                f"row {int(bad.nonzero()[0])}"
            )

    def to_json(self) -> dict[str, Any]:
        """The name, and the twenty most suspect rows with their scores."""
        worst = self.values.argsort(descending=True, stable=True)[:20]
        return {
            "name": self.name,
            "examples": len(self.values),
            "most_suspect_rows": worst.tolist(),
            "their_scores": [round(x, 5) for x in self.values[worst].tolist()],
        }

    def columns(self) -> dict[str, Any]:
        """One column, named after the scores."""
        return {self.name: self.values.numpy()}

    def ranks(self) -> Float[Tensor, " N"]:
        """Average rank of each example, scaled to [0, 1]; 1 is the most suspect, equal values share
        a rank.
        """
        from scipy.stats import rankdata

        return torch.from_numpy(
            (rankdata(self.values.numpy()) - 1) / max(len(self.values) - 1, 1)
        ).float()

    def standard(self) -> Float[Tensor, " N"]:
        """Values with mean 0 and standard deviation 1, cut at four standard deviations."""
        values = self.values.double()
        return (
            ((values - values.mean()) / values.std(correction=0).clamp_min(1e-12))
            .clamp(-4, 4)
            .float()
        )


def blend(scores: Sequence[Scores], name: str = "blend") -> Scores:
    """The mean of standardised scores: of several signals, or of one signal over several seeds.

    Why not the mean rank: ranks are flat, and the judges need the two modes of right and wrong
    labels.
    """
    if not scores:
        raise InputError("nothing to blend: name at least one signal")
    if len({len(each.values) for each in scores}) > 1:
        raise InputError(
            "scores of different sets cannot be blended: "
            + ", ".join(f"{each.name} has {len(each.values)}" for each in scores)
        )
    return Scores(name, torch.stack([each.standard() for each in scores]).mean(0))


def place(run: Path, name: str) -> Path:
    """Where scores are kept; never outside the run's folder, whatever paths are among a signal's
    options.
    """
    return run / "scores" / (re.sub(r"[/\\%]", lambda sign: f"%{ord(sign[0]):02X}", name) + ".npy")


def name_of(path: Path) -> str:
    """The scores that are kept in a file."""
    return unquote(path.stem)
