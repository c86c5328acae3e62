"""Reading: which part of a set is read, and by which source."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from datablame.ground import plug
from datablame.ground.errors import InputError, at_least

AMOUNT = 0.2
"""Share of wrong labels that are planted unless told."""

if TYPE_CHECKING:  # the command line reads the options off this file without waiting for torch
    from datablame.dataset import Dataset


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Which part of a set is read, and how."""

    test: Any = None
    """Test split: a source of its own, where the training source has none."""
    image: str | None = None
    """Column of the images (Parquet, hub)."""
    label: str | None = None
    """Column of the given labels (Parquet, hub)."""
    truth: str | None = None
    """Column of the right labels where they are known, for measuring only."""
    limit: int | None = None
    """Read only so many training rows."""
    size: int | None = None
    """Side in pixels to which images are brought; small images of one size keep theirs."""
    holdout: float = 0.2
    """Share held out for testing where there is no test split, every class alike."""

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit, size=self.size)
        if not 0 < self.holdout < 1:
            raise InputError(f"--holdout is a share between 0 and 1; {self.holdout} was asked")


def read(source: str | Path | Dataset, split: str = "train", reading: Reading = Reading()) -> Dataset | None:
    """One split of a source, found by what the source looks like; None where there is no such split.

    Raises InputError for a source that there is not, and for options that its kind does not have.
    """
    from datablame.dataset import Dataset
    from datablame.sources.preset import presets

    if isinstance(source, Dataset):
        return source
    where, path = str(source), Path(source)
    if path.is_dir() and not any(path.glob("*.parquet")) and not any(path.glob("*/*.parquet")):
        room, known = "folder", ("limit", "size")
    elif where == "digits":
        room, known = "digits", ("limit",)
    elif where in presets():
        room, known = "preset", ("label", "truth", "limit", "size")
    elif path.exists() or (where.count("/") == 1 and all(where.split("/")) and not path.suffix):
        room, known = "hub", ("image", "label", "truth", "limit", "size")
    else:
        raise InputError(f"there is no path {where}, and {plug.unknown('source', where, ['digits', *presets()])}")
    asked = {name: getattr(reading, name) for name in ("image", "label", "truth", "limit", "size")}
    given = {name: value for name, value in asked.items() if value is not None}
    if unfit := [name for name in given if name not in known]:
        raise InputError(f"{where} is read by '{room}', which cannot choose this: leave out --{' --'.join(unfit)}")
    return plug.find("sources", room)(where, split, **given)


def splits(
    source: str | Path | Dataset, reading: Reading, noise: str | None = None, amount: float = AMOUNT, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """(training set, test set) of a source: its own test split, the one named, or a stratified part held out.

    Noise is planted in the training set alone.
    """
    if noise is None and amount != AMOUNT:
        raise InputError(f"--amount {amount:g} says how much of a --noise is planted, such as --noise uniform")
    data = read(source, "train", reading)
    if data is None:
        raise InputError(f"{source} has no training split")
    whole = dataclasses.replace(reading, limit=None)
    if reading.test is not None:
        test = read(reading.test, "train", whole)
    else:
        test = read(source, "test", whole) if isinstance(source, (str, Path)) else None
    if test is None:
        data, test = data.holdout(reading.holdout)
    else:
        test = dataclasses.replace(matched(test, data), split="test" if test.split == "train" else test.split)
    return (planted(data, noise, amount, seed) if noise else data), test


def planted(data: Dataset, noise: str, amount: float, seed: int) -> Dataset:
    """The set with wrong labels planted, and by what."""
    noisy = plug.find("noises", noise)(data, amount, seed)
    return dataclasses.replace(noisy, extra=noisy.extra | {"planted": noise})


def matched(test: Dataset, data: Dataset, what: str = "test images") -> Dataset:
    """The test set with its classes numbered as the training set's. Raises InputError where classes or sizes do not fit."""
    import torch

    if other := sorted(set(test.classes) - set(data.classes)):
        raise InputError(f"the {what} have classes that the training set has not: {', '.join(other[:5])}")
    if test.shape != data.shape:
        raise InputError(f"{what} are {test.shape}, training images {data.shape}; bring both to one size with --size")
    number = torch.tensor([data.classes.index(name) for name in test.classes])
    return dataclasses.replace(test, classes=data.classes, labels=number[test.labels], mean=data.mean, std=data.std)
