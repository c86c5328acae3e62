"""Reading: which part of a set is read, and by which source."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from datablame.base import methods
from datablame.base.errors import InputError, at_least
from datablame.base.options import Labels, Leaks, ReadingInt, ReadingText, Share, Truth
from datablame.verbs.opening import Source

AMOUNT = 0.2
"""Share of wrong labels that are planted by default."""
CHOICES = ("image", "label", "truth", "group", "root", "limit", "size")
"""What may be chosen of a source; each takes those that its signature has."""
PLACES = ("source", "test", "from", "root", "classes")
"""Options that are paths, where such a path is there."""
OF_TESTS = ("test", "test_limit", "holdout", "keep_leaks")
"""Choices of test images."""
ON = ("retrain",)
"""Options that are on where they are not given."""

if TYPE_CHECKING:  # the command line reads the options off this file without waiting for torch
    from datablame.dataset import Dataset


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """Which part of a set is read, and how."""

    test: Any = None
    """Test split: a source of its own, where the training source has none."""
    image: ReadingText = None
    """Column of the images, or of features (Parquet, hub); of a COCO file, the folder of its
    images."""
    label: Labels = ()
    """Column of the given labels (Parquet, hub); of several annotators one each, which may have
    gaps."""
    truth: Truth = None
    """Column of the right labels where they are known, for measuring only."""
    group: ReadingText = None
    """Column of groups (a patient's or a camera's images), which stay on one side of every split
    (tables, Parquet, hub)."""
    root: ReadingText = None
    """Folder that the paths of a table start from; by default the table's own."""
    classes: ReadingText = None
    """File that names the classes: a line each in the order of their numbers, or JSON."""
    limit: ReadingInt = None
    """Read only this number of training rows."""
    test_limit: ReadingInt = None
    """Read only this number of rows of the test split."""
    size: ReadingInt = None
    """Side in pixels to which images are brought; small images of one size keep theirs."""
    keep_leaks: Leaks = False
    """Leave test images that are copies of training images in the test set."""
    holdout: Share = None
    """Share held out for testing where there is no test split, every class alike: by default 0.2,
    and none for an audit, which judges every image and tests by folds."""

    def __post_init__(self) -> None:
        at_least(1, limit=self.limit, test_limit=self.test_limit, size=self.size)
        label = (self.label,) if isinstance(self.label, str) else tuple(self.label)
        object.__setattr__(self, "label", label)
        if self.holdout is not None and not 0 <= self.holdout < 1:
            raise InputError(f"--holdout is a share from 0 to below 1; got {self.holdout}")


def unasked(reading: Reading, names: Sequence[str], why: str) -> None:
    """Raises InputError for choices that a command does not go by."""
    refuse({name: getattr(reading, name) for name in names}, vars(Reading()), why)


def refuse(asked: Mapping[str, Any], usual: Mapping[str, Any], why: str) -> None:
    """Raises InputError for options that are not as usual: here they have no effect."""
    if given := [name for name, value in asked.items() if value != usual[name]]:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in given)
        raise InputError(f"{why}: leave out {flags}")


def read(
    source: Source, split: str = "train", reading: Reading = Reading(), strict: bool = True
) -> Dataset | None:
    """One split of a source, found by what the source looks like; None where there is no such
    split.

    Raises InputError for a source that there is not, and for choices that its kind does not have,
    unless it is not `strict`: then they are those of another source.
    """
    from datablame.base import remote
    from datablame.data.classes import named_by, words_of
    from datablame.dataset import Dataset
    from datablame.exchange.objects import dataset_of

    if isinstance(source, (str, Path)):
        data = _read(source, split, reading, strict)
    elif isinstance(source, Dataset):
        chosen = _chosen(reading, ("limit",), "this is a Dataset", strict)
        if strict and reading.classes is not None:
            raise InputError("a Dataset has the names of its classes: leave out --classes")
        return _first(source, chosen)
    else:
        chosen = _chosen(reading, ("limit", "size"), f"this is a {type(source).__name__}", strict)
        data = dataset_of(source, reading.size) if split == "train" else None
        data = data if data is None else _first(data, chosen)
    if data is None or reading.classes is None:
        return data
    return named_by(data, words_of(remote.local(reading.classes)), reading.classes)


def _first(data: Dataset, chosen: dict[str, Any]) -> Dataset:
    """As many examples as the limit says."""
    limit = chosen.get("limit", len(data))
    return data if limit >= len(data) else data.take(range(limit))


def _chosen(reading: Reading, known: Sequence[str], what: str, strict: bool) -> dict[str, Any]:
    """What was chosen of a source. Raises InputError for what it cannot choose, where it is its
    own.
    """
    asked = {name: getattr(reading, name) for name in CHOICES}
    given = {name: value for name, value in asked.items() if value not in (None, ())}
    if strict and (unfit := [name for name in given if name not in known]):
        raise InputError(f"{what}, which cannot choose this: leave out --{' --'.join(unfit)}")
    return {name: value for name, value in given.items() if name in known}


def _read(source: str | Path, split: str, reading: Reading, strict: bool) -> Dataset | None:
    """A split of a path or a name."""
    from datablame.base import remote

    if not str(source).strip():
        raise InputError("name a source: a folder of class folders, a file of images, or digits")
    path = remote.local(source)
    where = str(path if remote.known(source) else source)
    if path.exists() and not (path.is_dir() or path.is_file()):
        raise InputError(f"{where} is not a file or a folder")
    room = _room(where, path)
    make = methods.find("sources", room)
    known = list(inspect.signature(make).parameters)
    given = _chosen(reading, known, f"{where} is read by '{room}'", strict)
    if room == "table" and remote.known(source):  # its paths start where it lies
        given.setdefault("root", remote.shown(str(source)).rpartition("/")[0])
    return make(where, split, **given)


def _room(where: str, path: Path) -> str:
    """The source that reads it. Raises InputError where there is nothing."""
    from datablame.boxes import formats as boxes
    from datablame.methods.sources import (
        archive,
        features,
        hub,
        published,
        table,
        webdataset,
    )
    from datablame.methods.sources.preset import presets

    if where.startswith("torchvision:"):
        return "torchvision"
    if boxes.holds(path):
        return "boxes"
    if published.holds(path):
        return "published"
    if hub.holds(path):
        return "hub"
    if webdataset.holds(path):
        return "webdataset"
    if path.is_dir() and not any(any(path.glob(f"{deep}*.parquet")) for deep in ("", "*/", "*/*/")):
        return "folder"
    if where == "digits" or where in presets():
        return "digits" if where == "digits" else "preset"
    rooms = {"archive": archive, "features": features, "table": table}
    if room := next((name for name, each in rooms.items() if each.holds(path)), None):
        return room
    if path.exists() or where.startswith("hub:"):
        return "hub"
    near = _nearest(path)
    if where.count("/") == 1 and all(where.split("/")) and not path.suffix:
        raise InputError(
            f"there is no path {where}, seen from {Path.cwd()}"
            + (f"; did you mean {near}?" if near else "")
            + f"; a set of the Hugging Face hub is named hub:{where}"
        )
    if near:
        raise InputError(f"there is no path {where}; did you mean {near}?")
    raise InputError(
        f"there is no path {where}, and {methods.unknown('source', where, ['digits', *presets()])}"
    )


def _nearest(path: Path) -> Path | None:
    """What is there and is called most like a path that is not; None where nothing is."""
    known, missing = path, path.name
    while not known.exists() and known.parent != known:
        missing, known = known.name, known.parent
    if not known.is_dir():
        return None
    there = [child.name for child in known.iterdir() if not child.name.startswith(".")]
    close = difflib.get_close_matches(missing, there, n=1)
    return known / close[0] if close else None


def splits(
    source: Source,
    reading: Reading,
    noise: str | None = None,
    amount: float = AMOUNT,
    seed: int = 0,
    holdout: float = 0.2,
    settle: bool = True,
) -> tuple[Dataset, Dataset | None]:
    """(training set, test set) of a source: its own test split, the one named, or a stratified part
    held out, the share `holdout` where none is asked; None where that is 0.

    Noise is planted in the training set alone. Unless the set is not `settle`d, test images that
    are training images, or copies of these, are left out of the test set, and the copies of a
    training image stay on its side of every split.
    """
    if noise is None and amount != AMOUNT:
        raise InputError(
            f"--amount {amount:g} says how much of a --noise is planted, such as --noise uniform"
        )
    from datablame.analyses.duplicates import settled
    from datablame.data.matching import apart, matched

    data = read(source, "train", reading)
    if data is None:
        raise InputError(f"{source} has no training split")
    whole = dataclasses.replace(reading, limit=reading.test_limit)
    test = _tested(source, whole)
    if test is not None and test.shape[1:] != (side := data.shape[1:]) and len({*side}) == 1:
        test = _tested(source, dataclasses.replace(whole, size=side[0]))  # as training images are
    share = holdout if reading.holdout is None else reading.holdout
    if test is not None:
        name = "test" if test.split == "train" else test.split
        test = dataclasses.replace(matched(test, data), split=name)
        if settle and not reading.keep_leaks:
            test = apart(test, data)
    elif reading.test_limit is not None:
        raise InputError(
            f"--test-limit is of a test split, and {source} has none; name one: --test"
        )
    _undivided(data, test)
    if settle:
        data, test = settled(data, test, reading.keep_leaks)
    if test is None and share:
        data, test = data.holdout(share)
    return (planted(data, noise, amount, seed) if noise else data), test


def _undivided(data: Dataset, test: Dataset | None) -> None:
    """Raises InputError where a group has images on both sides."""
    import torch

    if data.groups is None or test is None or test.groups is None:
        return
    both = torch.isin(test.groups, data.groups)
    if both.any():
        first = test.name(int(both.int().argmax()))
        count = len(test.groups[both].unique())
        raise InputError(
            f"{count:,} groups have images in the training split and in the test split, such as "
            f"that of {first}: no model would be tested on a new group"
        )


def _tested(source: Source, reading: Reading) -> Dataset | None:
    """The test split of a source, or the one that is named for it."""
    if reading.test is not None:
        return read(reading.test, "train", reading, strict=False)  # the choices are the other's
    return read(source, "test", reading) if isinstance(source, (str, Path)) else None


def named(source: Source, reading: Reading, **more: Any) -> dict[str, Any]:
    """What a recipe's file says of a run's data and of its command: the source, and the options
    that were given; nothing where the set, or its test set, came from Python.
    """
    from datablame.base.remote import known as is_address
    from datablame.base.remote import shown

    places = [source] if reading.test is None else [source, reading.test]
    if not all(isinstance(each, (str, Path)) for each in places):
        return {}
    given = {name: getattr(reading, name) for name in Reading.__dataclass_fields__}
    known: dict[str, Any] = {"source": source} | given | more
    for name in PLACES:
        if known.get(name) is not None and Path(known[name]).exists():
            known[name] = Path(known[name]).absolute()
    lists = {name: list(value) for name, value in known.items() if isinstance(value, tuple)}
    plain = {name: str(value) for name, value in known.items() if isinstance(value, Path)}
    plain |= {name: shown(known[name]) for name in PLACES if is_address(known.get(name))}
    return {
        name: value
        for name, value in (known | lists | plain).items()
        if value not in (None, []) and (value is not False or name in ON)
    }


def planted(data: Dataset, noise: str, amount: float, seed: int) -> Dataset:
    """The set with wrong labels planted, and by what."""
    noisy = methods.find("noises", noise)(data, amount, seed)
    return dataclasses.replace(noisy, noise=methods.current("noises", noise))
