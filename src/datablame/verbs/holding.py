"""Opening a run, and holding it against other programs; the types that verbs share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datablame.dataset import Dataset
    from datablame.run import Run

    Source = str | Path | Dataset
    RunLike = str | Path | Run
else:  # the command line passes text, and must not wait for torch to learn the types
    Source = RunLike = str

HOLDING: list[Path] = []
"""Runs that verbs are at work on: one verb calls another."""


def opened(run: RunLike) -> Run:
    from datablame.run import Run

    return run if isinstance(run, Run) else Run(run)


@contextlib.contextmanager
def held(run: RunLike) -> Iterator[Run]:
    """A run, held against other programs that would write to its folder; at the end profile.txt says where the time went."""
    from datablame.ground import clock, store

    run = opened(run)
    with store.alone(run.path):
        HOLDING.append(run.path)
        try:
            yield run
        finally:
            HOLDING.pop()
        if not HOLDING and clock.profile.seconds:
            store.write_text(run.path / "profile.txt", str(clock.profile))
