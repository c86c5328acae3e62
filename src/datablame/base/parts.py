"""Parts: a share of work that needs no other process, for the array jobs of any scheduler.

`--part 3/8` does the third of eight shares and writes its own files; the same command without it
puts together what is there and does what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from datablame.base.errors import InputError
from datablame.base.results import Result

T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """The `number`th of `of` shares, from 1."""

    number: int
    of: int

    @classmethod
    def read(cls, text: str) -> Part:
        """Raises InputError for anything but two numbers such as 3/8."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text.strip())
        number, of = map(int, found.groups()) if found else (0, 0)
        if not 1 <= number <= of:
            raise InputError(f"--part is a number from 1 to N of N shares, as 3/8; got '{text}'")
        return cls(number, of)

    def mine(self, items: Sequence[T]) -> Sequence[T]:
        """Every N-th, so that long and short ones are mixed."""
        return items[self.number - 1 :: self.of]

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True, repr=False)
class Sliced(Result):
    """What a part of a command has done: of `every` pieces of work its own, of which `made` are
    where they were written.
    """

    part: Part
    what: str
    made: Sequence[str]
    every: int

    def to_json(self) -> dict[str, Any]:
        return {
            "part": str(self.part),
            "done": len(self.made),
            "of": self.every,
            "what": self.what,
            "written": list(self.made),
        }
