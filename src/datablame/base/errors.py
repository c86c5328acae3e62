"""The two ways in which this program says no."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """The request cannot be met; the message says what there is and what to do. Exit code 2."""


class RunError(RuntimeError):
    """Something broke during the work (a full disk, a loss that is not finite). Exit code 1."""


MOST = 2**31 - 1
"""What counts, sizes and rates end at where nothing closer is said."""


def at_least(low: float, most: float = MOST, **asked: float | None) -> None:
    """Raises InputError for a number below `low` or above `most`, or for one that is not a number,
    with its name; None is left out.
    """
    for name, value in asked.items():
        if value is not None and not low <= value <= most:
            bound = f"at most {most:,}" if value > most else f"at least {low:,}"
            raise InputError(f"{name} must be {bound}; got {value}")


class Unfetched(InputError):
    """Weights that are neither here nor to be had."""


def unknown(what: str, asked: str, there: Iterable[str]) -> InputError:
    """`no signal 'aumm'; did you mean aum? There is: aum, confident, ...`"""
    there = sorted(there)
    near = difflib.get_close_matches(asked, there, n=3, cutoff=0.5)
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"no {what} '{asked}';{hint} there is: {', '.join(there) or 'none'}")
