"""Names of classes, from a file of the user's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from datablame.base import readers
from datablame.base.errors import InputError, unknown
from datablame.dataset import Dataset, unique


def words_of(path: Path) -> list[str]:
    """Class names in the order of their numbers: a line each, or JSON: a list, `{"0": "cat"}` or
    `{"cat": 0}`.

    Raises InputError where it holds neither.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(f"class names cannot be read from {path}: {error}") from None
    if path.suffix.lower() != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    found = readers.parse_json(text, path)
    if isinstance(found, dict):
        turned = all(isinstance(value, int) for value in found.values())
        pairs = {str(v): k for k, v in found.items()} if turned else found
        found = [pairs.get(str(number)) for number in range(len(pairs))]
    words = [word for word in found if isinstance(word, str)] if isinstance(found, list) else []
    if not words or len(words) < len(found):
        raise InputError(f'{path} names no classes: a list, or {{"0": "cat", "1": "dog"}}')
    return words


def named_by(data: Dataset, words: Sequence[str], where: str) -> Dataset:
    """The set with these classes, in this order: names of the numbers that it has, or the names
    that it has among others.

    Raises InputError where there are fewer than it has, and for a class that is not among them.
    """
    words = unique(words)
    numbers = data.classes == tuple(map(str, range(len(data.classes))))
    if numbers and not set(data.classes) <= set(words):
        if len(words) < len(data.classes):
            raise InputError(
                f"{where} names {len(words)} classes, and {data.source} has labels up to "
                f"{len(data.classes) - 1}"
            )
        return dataclasses.replace(data, classes=words)
    if strange := [name for name in data.classes if name not in words]:
        raise unknown(f"class in {where}", strange[0], words)
    place = torch.tensor([*(words.index(name) for name in data.classes), -1])

    def moved(values: Tensor | None) -> Tensor | None:
        return None if values is None else place[values]

    return dataclasses.replace(
        data,
        classes=words,
        labels=place[data.labels],
        truth=moved(data.truth),
        votes=moved(data.votes),
    )
