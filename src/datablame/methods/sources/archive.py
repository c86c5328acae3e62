"""A zip or tar file of class folders, read in place: nothing of it is unpacked beside the user's
files.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path, PurePosixPath

from datablame.base import archives, decode, progress
from datablame.base.archives import Members
from datablame.base.errors import InputError
from datablame.data.packing import packed
from datablame.dataset import Dataset
from datablame.methods.sources.folder import LOOSE, PICTURES, SILENT, SPLITS

ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")


def archive(
    where: str, split: str = "train", limit: int | None = None, size: int | None = None
) -> Dataset | None:
    """Class folders in a zip or tar file: photos.zip with cat/1.jpg or train/cat/1.jpg in it.

    A compressed tar file is kept without its compression in the cache. Raises InputError for a file
    that is damaged, and for one whose members lead out of it, are links, or would unpack to far
    more than they are.
    """
    path = Path(where)
    archives.unpack([path])
    names = list(Members(path).entries)
    top = _top(names)
    inside = {name: name.removeprefix(top) for name in names}
    first = {PurePosixPath(name).parts[0].lower() for name in inside.values()}
    if first & set(SPLITS["train"]):
        home = next((part for part in SPLITS[split] if part in first), None)
        if home is None:
            return None
        inside = {
            name: rest.partition("/")[2]
            for name, rest in inside.items()
            if rest.partition("/")[0].lower() == home
        }
    elif split != "train":
        return None
    found, aside = [], []
    for name, rest in sorted(inside.items()):
        kind, own = PurePosixPath(name).suffix.lower(), PurePosixPath(rest).name
        if own.startswith((".", "__MACOSX")) or own.lower() in SILENT or "__MACOSX" in name:
            continue
        if kind in decode.endings() and "/" in rest:
            found.append((name, rest.partition("/")[0]))
        else:
            picture = kind in PICTURES | decode.endings()
            why = LOOSE if picture and "/" not in rest else "no picture"
            aside.append((name, f"{kind} is not read here" if kind in PICTURES else why))
    if not found:
        raise InputError(
            f"no images in class folders in {where}; folders are expected in it: cat/1.jpg, "
            "dog/2.jpg"
        )
    classes = tuple(sorted({name for _, name in found}))
    progress.say(f"{path}: {len(found):,} images in {len(classes)} class folders")
    if limit and limit < len(found):
        found = [found[i * len(found) // limit] for i in range(limit)]
    names = [name for name, _ in found]
    data = packed(
        f"{split} {limit}",
        Members(path, names),
        [classes.index(name) for _, name in found],
        classes,
        names,
        size=size,
        source=path.name.partition(".")[0],
        split=split,
    )
    for why, count in Counter(why for _, why in aside).items():
        some = ", ".join(name for name, each in aside if each == why)[:60]
        progress.say(f"{count:,} {why}: {some}")
    return dataclasses.replace(data, aside=(*data.aside, *aside))


def holds(path: Path) -> bool:
    """Whether a file is an archive, by its ending."""
    return path.name.lower().endswith(ENDINGS) and path.is_file()


def _top(names: list[str]) -> str:
    """The one folder above the classes that all members lie in, with its slash; nothing where there
    is none.
    """
    names = [name for name in names if "__MACOSX" not in name]
    first = {name.partition("/")[0] for name in names}
    deep = all(name.count("/") >= 2 for name in names)
    only = next(iter(first), "")
    split = only.lower() in {part for each in SPLITS.values() for part in each}
    return f"{only}/" if len(first) == 1 and deep and not split else ""
