"""Seconds and memory by stage; messages, by `logging.getLogger("datablame")`; and progress, a line
on a terminal or in a log.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


@dataclass
class _Profile:
    """Calls and seconds of each stage, and the most memory that the program had held by its end.

    Stages nest; a stage's own time leaves out the stages inside it.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    peak: dict[str, int] = field(default_factory=dict)
    inside: list[float] = field(default_factory=list)
    began: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        self.inside.append(0.0)
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            own = spent - self.inside.pop()
            if self.inside:
                self.inside[-1] += spent
            self.seconds[name] = self.seconds.get(name, 0.0) + own
            self.calls[name] = self.calls.get(name, 0) + 1
            self.peak[name] = peak()

    def rows(self) -> list[tuple[str, float, int, float, float, int]]:
        """(stage, mean seconds, calls, total seconds, share, peak memory of the program by its end
        in MiB), the longest first.
        """
        whole = sum(self.seconds.values()) or 1.0
        order = sorted(self.seconds.items(), key=lambda item: -item[1])
        return [
            (name, s / self.calls[name], self.calls[name], s, s / whole, self.peak[name] >> 20)
            for name, s in order
        ]

    def after(self, blocks: str) -> str:
        """What a file says that holds a block of each command, with this one as the last."""
        head = f"# {self.began}\n"
        return blocks.partition(head)[0] + f"{head}{self}\n"

    def __str__(self) -> str:
        head = f"{'stage':<24}{'mean s':>10}{'calls':>8}{'total s':>10}{'share':>8}{'peak MiB':>10}"
        lines = [
            f"{name:<24}{mean:>10.3f}{calls:>8}{total:>10.2f}{share:>8.1%}{peak:>10,}"
            for name, mean, calls, total, share, peak in self.rows()
        ]
        return "\n".join([head, *lines]) + "\n"


def peak() -> int:
    """Bytes that this program has held at most so far; with a GPU, those of its tensors there where
    they are more.
    """
    held = 0
    with contextlib.suppress(ImportError):  # Windows does not say
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        held = max(held, torch.cuda.max_memory_allocated())
    return held


class _Current:
    """The profile that stages are counted in, and the run that it is of."""

    profile = _Profile()
    run: Path | None = None
    clock: Clock | None = None
    told = 0.0


def profile() -> _Profile:
    """The current profile."""
    return _Current.profile


def profile_of(run: Path) -> _Profile:
    """The profile of a run: a new one where the current one is another run's."""
    if _Current.run not in (None, run.absolute()):
        _Current.profile = _Profile()
    _Current.run = run.absolute()
    return _Current.profile


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Count the seconds inside as a stage of the current profile."""
    with _Current.profile.stage(name):
        yield


LOG = logging.getLogger("datablame")
"""Messages for the person who waits, from rank 0 alone; INFO unless its level is set otherwise."""


class _Standard(logging.StreamHandler):
    """Standard error as it is now: notebooks and tests replace it."""

    def __init__(self):
        logging.Handler.__init__(self)
        self.setFormatter(logging.Formatter("%(message)s"))

    @property
    def stream(self):  # noqa: ANN202 - a text file
        return sys.stderr


_STANDARD = _Standard()


def _heard() -> bool:
    """Whether messages are wanted; where nobody has set up logging, they go to standard error."""
    if not LOG.hasHandlers():
        LOG.addHandler(_STANDARD)
    if LOG.level == logging.NOTSET:
        LOG.setLevel(logging.INFO)
    return LOG.isEnabledFor(logging.INFO)


def quiet(yes: bool = True) -> None:
    """Show no messages and no progress, only warnings; `quiet(False)` shows them again."""
    LOG.setLevel(logging.WARNING if yes else logging.INFO)


def say(line: str) -> None:
    """One line for the person who waits."""
    if _heard():
        LOG.info(line)


def tell(line: str) -> None:
    """One line that a person must see, quiet or not, since nothing goes on without."""
    _heard()
    LOG.warning(line)


class Clock:
    """One line for a whole command: which of its trainings it is at, and the time left."""

    def __init__(self, total: float, parts: int, seconds: float):
        self.total, self.parts, self.seconds = total, parts, seconds
        self.done, self.part, self.share, self.number = 0.0, 0.0, 0.0, 0
        self.began = time.perf_counter()

    def left(self) -> float:
        """Seconds: by what was guessed at first, and more and more by how it goes."""
        now = (self.done + self.share * self.part) / max(self.total, 1e-9)
        gone = time.perf_counter() - self.began
        seen = gone / now if now else self.seconds
        return max(0.0, (now * seen + (1 - now) * self.seconds) * (1 - now))

    def __str__(self) -> str:
        return f"{self.number} of {self.parts} trainings, about {span(self.left())} left"


@contextlib.contextmanager
def clock(total: float, parts: int, seconds: float) -> Iterator[None]:
    """Show progress of a whole command: so much work in so many trainings, about so many
    seconds.
    """
    _Current.clock, _Current.told = Clock(total, parts, seconds), 0.0
    try:
        yield
    finally:
        _Current.clock = None


@contextlib.contextmanager
def part(work: float) -> Iterator[None]:
    """A training of so much work, of the command whose clock runs."""
    found = _Current.clock
    if found is None:
        yield
        return
    found.part, found.share, found.number = work, 0.0, found.number + 1
    yield
    found.done, found.part = found.done + work, 0.0


def spared(work: float) -> None:
    """A training that is there already: neither work nor time."""
    if found := _Current.clock:
        whole, found.total = found.total, max(found.total - work, 1e-9)
        found.seconds *= found.total / whole
        found.number += 1


class Ticker:
    """Progress of one long piece of work, once it has taken two seconds, with the remaining
    time; `total` is 0 where nobody knows it.

    A line that is written over on a terminal; elsewhere a plain line at most every ten seconds,
    and every minute where a clock says how far the whole command is.
    """

    def __init__(self, total: int, what: str, unit: str):
        self.total, self.what, self.unit = total, what, unit
        self.done, self.began, self.told = 0, time.perf_counter(), 0.0
        self.terminal = sys.stderr.isatty()

    def tick(self, note: str = "") -> None:
        """One more is done."""
        self.done += 1
        now, whole = time.perf_counter(), _Current.clock
        if whole and whole.part and self.total:
            whole.share = self.done / self.total
        told, pause = (_Current.told, 60) if whole else (self.told, 10)
        if now - self.began < (0.2 if whole else 2) or now - told < (
            0.2 if self.terminal else pause
        ):
            return
        if not _heard():
            return
        self.told = _Current.told = now
        of, left = "", ""
        if self.total:
            of = f"/{self.total:,}"
            left = f", {span((now - self.began) / self.done * (self.total - self.done))} left"
        line = f"{self.what} {self.done:,}{of} {self.unit}{note and ', ' + note}{left}"
        if whole:
            line = f"{whole}: {self.what}{note and ', ' + note}"
        if self.terminal:
            print("\r\x1b[K" + line, end="", file=sys.stderr, flush=True)
        else:
            LOG.info(line)

    def close(self) -> None:
        """Wipe the line off a terminal."""
        if self.terminal and self.told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def track(items: Iterable[T], total: int, what: str, unit: str = "") -> Iterator[T]:
    """Pass items on, showing progress."""
    ticker = Ticker(total, what, unit)
    for item in items:
        yield item
        ticker.tick()
    ticker.close()


def span(seconds: float) -> str:
    """`95.2` -> `1 min 35 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
