"""Sets that the five systems use, by name: `presets.yaml` says where each lies and how it is
read.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datablame.base import environment, progress
from datablame.base.errors import InputError, unknown
from datablame.base.methods import ROOT, find
from datablame.dataset import Dataset
from datablame.methods.sources import archive, hub, published
from datablame.methods.sources.folder import folder


def preset(
    where: str,
    split: str = "train",
    label: str | Sequence[str] = (),
    truth: str | None = None,
    limit: int | None = None,
    size: int | None = None,
) -> Dataset | None:
    """A set named in presets.yaml: cifar10, cifar10n, cifar100, svhn, cinic10, tiny-imagenet,
    imagenet, cub200, ...

    A copy under `$DATABLAME_DATA/<name>` goes before the hub. Raises InputError, saying where to
    put what, for a set that cannot be fetched and is not there.
    """
    sets = presets()
    if where not in sets:
        raise unknown("preset", where, sets)
    facts = sets[where]
    at = home() / where
    if not at.exists() and "hub" not in facts:
        raise InputError(
            f"{facts['title']} cannot be fetched; {facts['place']} Put it under {at}, or "
            "set DATABLAME_DATA to the folder above it."
        )
    options: dict[str, Any] = {"limit": limit, "size": size or facts["size"]}
    asked = [name for name in (*((label,) if isinstance(label, str) else label), truth) if name]
    asked += ["label", "truth"] if facts.get("truth") else []
    columns = {
        "image": facts.get("image"),
        "label": label or facts.get("label", ()),
        "truth": truth or facts.get("truth"),
    }
    place = facts.get("place", f"It is fetched where nothing lies under {at}.")
    if not at.exists():
        name = facts.get("splits", {}).get(split, split)
        data = find("sources", "hub")(f"hub:{facts['hub']}", name, **columns, **options)
    else:
        try:
            data = _copy(at, split, columns, options, asked)
        except InputError as error:
            raise InputError(f"{error}. {facts['title']}: {place}") from None
    if data is None and at.exists():
        progress.say(f"{at} has no {split} split. {facts['title']}: {place}")
    if data is None:
        return None
    data = dataclasses.replace(data, source=where, split=split)
    return (
        data
        if data.shape[0] == 1
        else dataclasses.replace(data, mean=tuple(facts["mean"]), std=tuple(facts["std"]))
    )


def _copy(
    at: Path, split: str, columns: dict[str, Any], options: dict[str, Any], asked: list[str]
) -> Dataset | None:
    """What lies there: Parquet, published files, one archive, or class folders. Raises InputError
    where columns are asked of what has none.
    """
    if hub.holds(at) or any(at.rglob("*.parquet")):
        return hub.hub(str(at), split, **columns, **options)
    if asked:
        raise InputError(f"{at} holds no Parquet, and so no columns {', '.join(asked)}")
    if published.holds(at):
        sizeless = {name: value for name, value in options.items() if name != "size"}
        return published.published(str(at), split, **sizeless)
    packed = [path for path in at.iterdir() if archive.holds(path)]
    if len(packed) == 1 and not any(path.is_dir() for path in at.iterdir()):
        return archive.archive(str(packed[0]), split, **options)
    return folder(str(at), split, **options)


@functools.cache
def presets() -> dict[str, Any]:
    """Everything in presets.yaml, by name."""
    import yaml

    return yaml.safe_load((ROOT / "sources" / "presets.yaml").read_text(encoding="utf-8"))


def home() -> Path:
    """Where sets that cannot be fetched are put: `DATABLAME_DATA`, else `sets` in the cache."""
    return Path(os.environ.get("DATABLAME_DATA") or environment.cache() / "sets")
