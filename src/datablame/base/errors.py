"""The two ways in which this program says no."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The request cannot be met; the message says what there is and what to do. Exit code 2."""


class RunError(RuntimeError):
    """Something broke during the work (a full disk, a loss that is not finite). Exit code 1."""


def at_least(low: float, **asked: float | None) -> None:
    """Raises InputError for a number below `low`, with its name; None is no number."""
    for name, value in asked.items():
        if value is not None and not value >= low:
            raise InputError(f"{name} must be at least {low}; got {value}")


def unknown(what: str, asked: str, there: Iterable[str]) -> InputError:
    """`no signal 'aumm'; did you mean aum? There is: aum, confident, ...`"""
    there = sorted(there)
    near = difflib.get_close_matches(asked, there, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"no {what} '{asked}';{hint} there is: {', '.join(there) or 'none'}")
