"""The sets of torchvision, from where torchvision keeps them.
docs.pytorch.org/vision/stable/datasets.html
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from datablame.base.errors import InputError, unknown
from datablame.data.objects import of_files, of_map, samples_of
from datablame.dataset import Dataset
from datablame.methods.sources.preset import home

UNSAFE = ("VisionDataset", "LSUN", "LSUNClass")
"""Not a set, and sets that unpickle what lies in the working folder."""
PARTS = {
    "train": ("train", "trainval", "train-standard"),
    "test": ("test", "val", "valid"),
}
"""What a split may be called."""


def torchvision(
    where: str,
    split: str = "train",
    root: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """`torchvision:Food101`, under `root` as torchvision lays it out, or in the folder of its name
    where sets are put (DATABLAME_DATA).

    Raises InputError for a set that there is not, or that is not there.
    """
    from torchvision import datasets

    name = where.partition(":")[2]
    kinds = {
        key: kind
        for key, kind in vars(datasets).items()
        if inspect.isclass(kind) and issubclass(kind, datasets.VisionDataset)
    }
    kinds = {key: kind for key, kind in kinds.items() if key not in UNSAFE}
    if name not in kinds:
        raise unknown("set of torchvision", name, kinds)
    place = Path(root) if root is not None else home() / name
    found = _made(kinds[name], name, place, split)
    if found is None:
        return None
    if samples := samples_of(found):
        count = min(limit or len(samples), len(samples))  # spread over the classes
        samples = [samples[k * len(samples) // count] for k in range(count)]
        data = of_files(samples, found, size)
    else:
        data = of_map(found, size, limit)
    return dataclasses.replace(data, source=name.lower(), split=split)


def _made(kind: Any, name: str, place: Path, split: str) -> Any:
    """torchvision's own object of a split; None where the set has no such split."""
    options = inspect.signature(kind).parameters
    if name == "EMNIST":
        tries: list[dict[str, Any]] = [{"split": "balanced", "train": split == "train"}]
    elif "train" in options:
        tries = [{"train": split == "train"}]
    elif "split" in options:
        tries = [{"split": part} for part in PARTS[split]]
    elif split != "train":
        return None
    else:
        tries = [{}]
    for more in tries:
        try:
            return kind(str(place), **more)
        except ValueError as error:  # no such split
            if "split" not in str(error):
                raise InputError(f"{name} cannot be read from {place}: {error}") from None
        except Exception as error:  # torchvision raises many kinds for what is missing or damaged
            raise InputError(
                f"{name} cannot be read from {place}: {str(error).partition(chr(10))[0][:120]}; "
                f"fetch it with torchvision.datasets.{name}({str(place)!r}, download=True), or "
                "name its folder with --root"
            ) from None
    return None
