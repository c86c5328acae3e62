"""Subset: which part of a training set is trained on: a number of images drawn by the seed, or
those that another run found coolest.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from datablame.base.errors import InputError, unknown

if TYPE_CHECKING:
    from torch import Tensor

    from datablame.base.shapes import Int
    from datablame.dataset import Dataset


@dataclass(frozen=True)
class Subset:
    """A number of examples drawn at random; or the share with the lowest temperatures after an
    epoch of a run. Saxena, Tuzel, DeCoste, 2019 (section 4.3)
    """

    examples: int = 0
    """Train on this number of images of the set, drawn by the recipe's seed; 0, or more than there
    are: on all."""
    drawn: str = "stratified"
    """How they are drawn: stratified, every class in proportion; or random."""
    keep: float = 1.0
    """Fraction to train on: lowest temperatures in the run given by --from."""
    origin: Annotated[str | None, Parameter(name="--from")] = None
    """Run that was trained on the same set with --trainer data_parameters, whose temperatures say
    what is kept."""
    epoch: int = 0
    """Epoch of that run whose temperatures count, from 1; 0: the last."""
    within: str = "set"
    """Where the share is taken: of the whole set, or of each class."""

    def __post_init__(self) -> None:
        if self.examples < 0 or self.drawn not in ("stratified", "random"):
            raise InputError(
                "--examples takes a number of images from 1, --drawn stratified or "
                f"random; got {self.examples} and {self.drawn}"
            )
        if self.examples == 1:
            raise InputError("one image cannot be trained on; ask for --examples 2 or more")
        if self.drawn == "random" and not self.examples:
            raise InputError("--drawn random goes with --examples, such as --examples 1000")
        if self.examples and self.origin is not None:
            raise InputError(
                "--examples and --from each choose the part of the set that is trained "
                "on; leave one out"
            )
        if not 0 < self.keep <= 1:
            raise InputError(f"keep is a share above 0 and up to 1; got {self.keep}")
        if self.within not in ("set", "class"):
            raise unknown("place to take a share of", self.within, ("set", "class"))
        if self.origin is None and (self.epoch or self.within != "set"):
            raise InputError(
                "--epoch and --within say which part of --from RUN is trained on; for the "
                "length of training: --epochs"
            )
        if (self.keep < 1) != (self.origin is not None):
            missing = (
                "--from RUN, whose temperatures say what is kept"
                if self.origin is None
                else "--keep, such as 0.6"
            )
            raise InputError(f"training on a part needs {missing}")

    def named(self) -> dict[str, object]:
        """The options that say it, by their names; without those that are the defaults."""
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        plain = dataclasses.asdict(type(self)())
        chosen = {name: value for name, value in given.items() if value != plain[name]}
        return {"from" if name == "origin" else name: value for name, value in chosen.items()}

    def rows(self, data: Dataset, seed: int) -> Int[Tensor, " n"]:
        """Rows of a sample of this size, in their order; all where the set has no more. Raises
        InputError for a sample of one class.
        """
        from datablame.base import hashing

        count = min(self.examples, len(data))
        if self.drawn == "random":
            rows = hashing.some(len(data), count, "subset", seed)
        else:
            rows = hashing.spread(data.labels, count, "subset", seed, even=False)
        if len(data.labels[rows].unique()) < 2:
            raise InputError(f"--examples {self.examples} would leave one class only; ask for more")
        return rows.sort().values
