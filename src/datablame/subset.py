"""Subset: which part of a training set is trained on, by the temperatures that another run learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from datablame.ground.errors import InputError, unknown


@dataclass(frozen=True)
class Subset:
    """The share of the examples with the lowest temperatures after an epoch of a run. Saxena, Tuzel, DeCoste, 2019 (section 4.3)"""

    keep: float = 1.0
    """Share of the training set that is trained on: the coolest by the run of --from."""
    origin: Annotated[str | None, Parameter(name="--from")] = None
    """Run that was trained on the same set with --trainer temper, whose temperatures say what is kept."""
    epoch: int = 0
    """Epoch of that run whose temperatures count, from 1; 0: the last."""
    within: str = "set"
    """Where the share is taken: of the whole set, or of each class."""

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise InputError(f"keep is a share above 0 and up to 1; {self.keep} was asked")
        if self.within not in ("set", "class"):
            raise unknown("place to take a share of", self.within, ("set", "class"))
        if (self.keep < 1) != (self.origin is not None):
            missing = (
                "--from RUN, whose temperatures say what is kept" if self.origin is None else "--keep, such as 0.6"
            )
            raise InputError(f"training on a part needs {missing}")
