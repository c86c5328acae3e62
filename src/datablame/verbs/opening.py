"""Opening runs and holding them against other programs; natural arguments; the types that verbs
share.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from datablame.base.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor

    from datablame.dataset import Dataset
    from datablame.recipe import Recipe
    from datablame.run import Run

    Source = str | Path | Dataset | tuple[Any, Any]
    RunLike = str | Path | Run
    RecipeLike = str | Path | Recipe
    SignalLike = str | Callable[..., Tensor] | Sequence[Any]
else:  # the command line passes text, and must not wait for torch to learn the types
    Source = RunLike = RecipeLike = SignalLike = str

P = ParamSpec("P")
T = TypeVar("T")

HOLDING: list[Path] = []
"""Runs that verbs are at work on: one verb calls another."""


def opened(run: RunLike) -> Run:
    """A run, from its folder where a path is given; `demo`, where no such folder is here, is the
    small run that comes with the package.

    Raises InputError for a folder that is no run.
    """
    from datablame.run import Run
    from datablame.verbs.demonstration import NAME, demonstration

    if isinstance(run, Run):
        return run
    return demonstration() if str(run) == NAME and not Path(NAME).exists() else Run(run)


@contextlib.contextmanager
def held(run: RunLike, patient: bool = False) -> Iterator[Run]:
    """A run, held against other programs that would write to its folder; `patient`: it waits for
    them.

    At the end, profile.txt says where the time went: of this run alone, with what came before it
    was opened (decoding its images, say).
    """
    from datablame.base import files, folders, progress, readers

    run = opened(run)
    with folders.alone(run.path, patient):
        if not HOLDING:
            progress.profile_of(run.path)
        HOLDING.append(run.path)
        try:
            yield run
        finally:
            HOLDING.pop()
            carded(run)
        if not HOLDING and progress.profile().seconds:
            path = run.path / "profile.txt"
            before = readers.read_text(path) if path.exists() else ""
            files.write_text(path, progress.profile().after(before))


def carded(run: Run) -> None:
    """Write card.txt, as things are now."""
    from datablame.base import files

    if run.finished and (run.path / "verdict.csv").exists():
        files.write_text(run.path / "card.txt", run.card)


@contextlib.contextmanager
def held_model(run: RunLike, patient: bool = False) -> Iterator[Run]:
    """A run that has a model and test images, held: the first fold's where the run is
    cross-fitted.
    """
    from datablame.base import progress

    found = opened(run)
    if found.cross_fitted and found.finished:
        progress.say(
            f"{found.path} has a model for each fold: this is of the first, whose test images are "
            "those that it left out"
        )
    with held(found.with_model if found.finished else found, patient) as run:
        yield run


def several(runs: Iterable[RunLike]) -> list[Run]:
    """Runs, once each; of a folder that holds several, all that are finished and have test
    images.
    """
    from datablame.base import progress

    every: dict[str, Run] = {}
    for where in runs:
        if not isinstance(where, (str, Path)) or (Path(where) / "run.json").exists():
            found = [opened(where)]
        else:
            inside = [opened(path.parent) for path in sorted(Path(where).glob("*/run.json"))]
            found = [
                run for run in inside if run.finished and (run.cross_fitted or run.test is not None)
            ]
            for run in inside:
                if run not in found:
                    why = "has no test images" if run.finished else "is not finished"
                    progress.say(f"{run.path} is left out: it {why}")
            found = found or [opened(where)]
        every |= {str(run.path): run for run in found}
    return list(every.values())


def flat(signals: Iterable[SignalLike]) -> list[Any]:
    """Signals from arguments, of which some may be lists: `score(run, "aum", "knn")`, `score(run,
    ["aum", "knn"])`.
    """
    if isinstance(signals, str):
        return [signals]
    return [
        each
        for signal in signals
        for each in ([signal] if isinstance(signal, str) or callable(signal) else flat(signal))
    ]


def fields_as_keywords(verb: Callable[P, T]) -> Callable[P, T]:
    """Let the fields of a verb's dataclass options be given by name: `audit("digits", epochs=3,
    limit=500)`.

    The signature stays as it is, so that the command line reads the options off the dataclasses.
    """
    parameters = inspect.signature(verb).parameters
    options = {
        name: p.default for name, p in parameters.items() if dataclasses.is_dataclass(p.default)
    }
    homes = {
        field.name: name for name, value in options.items() for field in dataclasses.fields(value)
    }

    @functools.wraps(verb)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        given: dict[str, Any] = dict(kwargs)
        for name in [name for name in given if name not in parameters]:
            if name not in homes:
                raise unknown(f"option of {verb.__name__}", name, [*parameters, *homes])
            home, value = homes[name], given.pop(name)
            given[home] = dataclasses.replace(given.get(home, options[home]), **{name: value})
        return verb(*args, **given)  # type: ignore[arg-type]  # the same options, in their dataclasses

    return call
