"""Seconds by stage, and progress that a person can read on a terminal or in a log. All of it on standard error."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from datablame.ground import world

T = TypeVar("T")


@dataclass
class Profile:
    """Calls and seconds of each stage. Stages nest; a stage's own time leaves out the stages inside it."""

    seconds: dict[str, float] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    inside: list[float] = field(default_factory=list)

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

    def rows(self) -> list[tuple[str, float, int, float, float]]:
        """(stage, mean seconds, calls, total seconds, share), the longest first."""
        whole = sum(self.seconds.values()) or 1.0
        order = sorted(self.seconds, key=lambda name: -self.seconds[name])
        return [
            (n, self.seconds[n] / self.calls[n], self.calls[n], self.seconds[n], self.seconds[n] / whole) for n in order
        ]

    def __str__(self) -> str:
        head = f"{'stage':<24}{'mean s':>10}{'calls':>8}{'total s':>10}{'share':>8}"
        return (
            "\n".join([head, *(f"{n:<24}{m:>10.3f}{c:>8}{t:>10.2f}{s:>8.1%}" for n, m, c, t, s in self.rows())]) + "\n"
        )


profile = Profile()
stage = profile.stage


def say(line: str) -> None:
    """One line for the person who waits, from rank 0 alone."""
    if world.rank() == 0:
        print(line, file=sys.stderr, flush=True)


class Ticker:
    """Progress of one long piece of work, once it has taken two seconds, with the remaining time; `total` is 0 where nobody knows it.

    A line that is written over on a terminal; elsewhere a plain line at most every ten seconds.
    """

    def __init__(self, total: int, what: str, unit: str):
        self.total, self.what, self.unit = total, what, unit
        self.done, self.began, self.told = 0, time.perf_counter(), 0.0
        self.terminal = sys.stderr.isatty()

    def tick(self, note: str = "") -> None:
        """One more is done."""
        self.done += 1
        now = time.perf_counter()
        if world.rank() or now - self.began < 2 or now - self.told < (0.2 if self.terminal else 10):
            return
        self.told = now
        of, left = "", ""
        if self.total:
            of = f"/{self.total:,}"
            left = f", {span((now - self.began) / self.done * (self.total - self.done))} left"
        line = f"{self.what} {self.done:,}{of} {self.unit}{note and ', ' + note}{left}"
        start, end = ("\r\x1b[K", "") if self.terminal else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Wipe the line off a terminal."""
        if self.terminal and self.told and not world.rank():
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
