"""The certificate: how many labels are wrong, by a few answers of a person's; formulas in
`label_quality/stratified`.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datablame.base import arrays, files, hashing, readers
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.label_quality.stratified import EVEN, bounds, shares, strata
from datablame.run import Run
from datablame.verdict import DROP, FIX

AGAIN = 10
"""Of so many images one is asked about twice."""
RIGHT, WRONG, UNSURE = "right", "wrong", "unsure"
"""Answers besides the name of the right class."""
HALF = 1.96
KEPT = ("act", "proposed", "probability")
"""What is kept of the verdict besides p_wrong."""
FORMULAS = (
    f"strata of p_wrong; draws with replacement, by size and sqrt(p (1 - p)), {EVEN:.0%} by size "
    "alone; interval: mixture of products over strata of Beta mixture likelihood ratios, below 20 "
    "(valid at all times); normal: sum p + mean((wrong - p) / probability of the draw) +- 1.96 "
    "standard errors"
)


OTHER = "; nothing is said of the cleaned set: the verdict has changed since the images were drawn"


@dataclass(frozen=True)
class Answer:
    """What a person says of an example: its right class, or -1 where it is wrong and which is right
    is not known, or None where the person is not sure.
    """

    row: int
    right: int | None
    again: bool = False
    by: str = ""


@dataclass(frozen=True, eq=False)
class Drawing:
    """From what images are drawn, as things were when the first was: probabilities, acts and
    proposed labels; they never change, so that the bounds hold.
    """

    path: Path
    p_wrong: np.ndarray
    act: np.ndarray
    proposed: np.ndarray
    probability: np.ndarray
    labels: np.ndarray
    seed: int
    share: np.ndarray
    """Of the draws, in each stratum."""
    verdict: str
    """Digest of the verdict by which the images were drawn; nothing where it was not noted."""
    standing: bool
    """Whether that verdict stands."""

    @classmethod
    def of(cls, run: Run, seed: int | None = 0) -> Drawing:
        """The drawing of a run, begun if there is none; of whatever seed it is, for None.

        Raises InputError for a run whose verdict has no probabilities, and for another seed than
        that of the beginning.
        """
        path = run.path / "certificate.safetensors"
        if not path.exists():
            verdict = run.verdict
            if verdict is None or verdict.p_wrong is None:
                raise InputError(
                    f"{run.path} has no probabilities to draw by; judge it anew: datablame judge "
                    f"{run.path}"
                )
            kept = {"p_wrong": verdict.p_wrong} | {name: getattr(verdict, name) for name in KEPT}
            kept["share"] = torch.from_numpy(_share(verdict.p_wrong.numpy()))
            facts = {"seed": str(seed or 0), "run": _mark(run), "verdict": run.verdict_digest}
            arrays.write_tensors(path, kept, facts)
        kept, facts = readers.read_tensors(path)
        if facts.get("run") != _mark(run) or not facts.get("seed", "").lstrip("-").isdigit():
            raise readers.Damaged(path, "it is of another run")
        if "share" not in kept:
            raise InputError(
                f"{path} is of an older version of datablame, which drew otherwise: delete it to "
                "begin anew"
            )
        seed = int(facts["seed"]) if seed is None else seed
        if int(facts["seed"]) != seed:
            raise InputError(
                f"the images of {run.path} were drawn with --seed {facts['seed']}; another seed "
                f"would be another certificate: delete {path} to begin anew"
            )
        labels = run.data.labels.numpy()
        if any(len(kept.get(name, ())) != len(labels) for name in ("p_wrong", *KEPT)):
            raise readers.Damaged(path, f"it is not of {len(labels):,} images")
        act, proposed, probability = (kept[name].numpy() for name in KEPT)
        p_wrong, share = kept["p_wrong"].numpy(), kept["share"].numpy()
        mark = facts.get("verdict", "")
        standing = mark in ("", run.verdict_digest)
        drawing = cls(
            path, p_wrong, act, proposed, probability, labels, seed, share, mark, standing
        )
        if len(share) != len(drawing.sizes) or share.min() < 0 or abs(share.sum() - 1) > 1e-6:
            raise readers.Damaged(path, "its shares are not those of its strata")
        return drawing

    @cached_property
    def by_stratum(self) -> np.ndarray:
        """The images, stratum by stratum."""
        return np.argsort(self.stratum, kind="stable")

    @cached_property
    def stratum(self) -> np.ndarray:
        """Of each image."""
        return strata(self.p_wrong.astype("float64"))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """By stratum."""
        return np.bincount(self.stratum, values, minlength=int(self.stratum.max()) + 1)

    @cached_property
    def sizes(self) -> np.ndarray:
        """Images in each stratum."""
        return self.sums(np.ones(len(self.stratum)))

    def rows(self, count: int) -> np.ndarray:
        """The first `count` draws, with replacement: a stratum, and an image of it."""
        turn = torch.arange(count)
        where, which = (hashing.uniform(turn, "certify", self.seed, k).numpy() for k in range(2))
        ends = np.cumsum(self.share)
        chosen = np.minimum(np.searchsorted(ends, where, side="right"), len(ends) - 1)
        first = np.cumsum(self.sizes) - self.sizes
        place = np.minimum(which * self.sizes[chosen], self.sizes[chosen] - 1)
        return self.by_stratum[(first[chosen] + np.floor(place)).astype(int)]

    def images(self, count: int) -> np.ndarray:
        """The first `count` different images that are drawn, in their order; all where that is
        less.
        """
        count, draws = min(count, len(self.labels)), 4 * count + 64
        while True:
            drawn = self.rows(draws)
            first = np.sort(np.unique(drawn, return_index=True)[1])
            if len(first) >= count or draws > 200 * len(self.labels) + 10_000:
                return drawn[first[:count]]
            draws *= 2


def _share(p_wrong: np.ndarray) -> np.ndarray:
    where = strata(p_wrong.astype("float64"))
    sizes = np.bincount(where).astype(float)
    return shares(sizes, np.bincount(where, p_wrong) / sizes)


def _mark(run: Run) -> str:
    return str(run.about["fingerprint"])


@dataclass(frozen=True, repr=False)
class Certificate(Result):
    """How many labels are wrong by so many answers: `interval` holds the number with 95 %
    probability at all moments at once, `normal` (middle, low, high) at one; `left` bounds the share
    of the cleaned set's labels that are still wrong. `more` says how many answers would halve that
    bound.
    """

    examples: int
    answers: int
    draws: int
    wrong: int
    interval: tuple[float, float]
    normal: tuple[float, float, float]
    left: float
    fix_right: tuple[float, float] | None
    drop_wrong: tuple[float, float] | None
    more: int | None
    asked_twice: int
    disagreed: int
    unsure: int
    by: tuple[str, ...]
    verdict: str = ""
    """Digest of the verdict whose cleaned set it is of."""
    standing: bool = True
    """Whether that verdict stands; else `left`, `fix_right` and `drop_wrong` are of another set."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"sentence": str(self), "counted": self.counted}

    @property
    def counted(self) -> str:
        """What is told whatever the verdict is now."""
        low, high = self.interval
        return (
            f"between {low:,.0f} and {high:,.0f} of {self.examples:,} labels are wrong, by "
            f"{self.answers:,} answers (95 %, at whatever moment one looks; normal interval "
            f"{self.normal[1]:,.0f} to {self.normal[2]:,.0f})"
        )

    def __str__(self) -> str:
        if not self.standing:
            return self.counted + OTHER
        told = f"{self.counted}; of the cleaned set's at most {self.left:.1%}"
        if self.more:
            told += f", and {self.more:,} answers more would halve that"
        for name, part in (("to fix", self.fix_right), ("to drop", self.drop_wrong)):
            if part:
                what = "are fixed rightly" if name == "to fix" else "are wrong"
                told += f"; of those {name} {part[0]:.0%} to {part[1]:.0%} {what}"
        if self.asked_twice:
            told += (
                f"; {self.disagreed} of {self.asked_twice} were answered otherwise when asked twice"
            )
        return told + (f"; {self.unsure} answers are unsure" if self.unsure else "")


def certificate(drawing: Drawing, answers: list[Answer]) -> Certificate:
    """What the answers show. Draws count up to the first image that is not answered.

    Raises InputError where not even the first is.
    """
    known = {answer.row: answer for answer in answers if not answer.again}
    drawn = drawing.rows(max(4 * len(known) + 64, 64))
    there = np.isin(drawn, list(known))
    while there.all() and len(drawn) < 50 * len(drawing.labels):
        drawn = drawing.rows(2 * len(drawn))
        there = np.isin(drawn, list(known))
    drawn = drawn if there.all() else drawn[: int(there.argmin())]
    if not len(drawn):
        raise InputError("the first image that was drawn has no answer: answer them in their order")
    right = np.array([_class(known[row], drawing.labels) for row in drawn.tolist()])
    unsure = np.array([known[row].right is None for row in drawn.tolist()])
    wrong = right != drawing.labels[drawn]
    slip, twice, disagreed = _slips(drawing, known, answers)
    low = _bounded(drawing, drawn, wrong & ~unsure, drawing.p_wrong)[0]
    high = _bounded(drawing, drawn, wrong | unsure, drawing.p_wrong)[1]
    act, proposed = drawing.act[drawn], drawing.proposed[drawn]
    still = np.where(act == FIX, right != proposed, wrong) | unsure
    kept, fixed = drawing.act != DROP, drawing.act == FIX
    remain = np.where(fixed, 1 - drawing.probability, drawing.p_wrong)

    def left(times: float) -> float:
        most = _bounded(drawing, drawn, still, remain, kept, times)[1] + slip
        return min(most / max(int(kept.sum()), 1), 1.0)

    return Certificate(
        len(drawing.labels),
        len(known),
        len(drawn),
        int(
            sum(_class(each, drawing.labels) != drawing.labels[row] for row, each in known.items())
        ),
        (max(low - slip, 0.0), min(high + slip, float(len(drawing.labels)))),
        _normal(drawing, drawn, wrong, slip),
        left(1.0),
        _part(drawing, drawn, ~still, drawing.probability, fixed),
        _part(drawing, drawn, wrong & ~unsure, drawing.p_wrong, ~kept),
        _more(left, len(known)),
        twice,
        disagreed,
        int(sum(each.right is None for each in known.values())),
        tuple(sorted({answer.by for answer in answers if answer.by})),
        drawing.verdict,
        drawing.standing,
    )


def kept(run: Run, drawing: Drawing, found: Certificate, answers: list[Answer]) -> Certificate:
    """The certificate, written to certificate.json with what was drawn and answered."""
    facts = found.to_json() | {
        "seed": drawing.seed,
        "formulas": FORMULAS,
        "strata": {
            "sizes": drawing.sizes.astype(int).tolist(),
            "share_of_draws": drawing.share.round(6).tolist(),
        },
        "answered": [asdict(answer) for answer in answers],
    }
    files.write_json(run.path / "certificate.json", facts)
    return found


def _class(answer: Answer, labels: np.ndarray) -> int:
    """The right class, -1 for an unknown one; the given one where a person is not sure."""
    return int(labels[answer.row]) if answer.right is None else answer.right


def _bounded(
    drawing: Drawing,
    drawn: np.ndarray,
    hits: np.ndarray,
    foretold: np.ndarray,
    among: np.ndarray | None = None,
    times: float = 1.0,
) -> tuple[float, float]:
    """Bounds on the hits among all images, or some, as if the same had been drawn so many times;
    `foretold` is the probability of each image to be one.
    """
    among = np.ones(len(drawing.labels), bool) if among is None else among
    sizes = drawing.sums(among.astype(float))
    expected = drawing.sums(foretold * among) / np.maximum(sizes, 1)
    inside = among[drawn]
    count = np.bincount(drawing.stratum[drawn[inside]], minlength=len(sizes)) * times
    found = np.bincount(drawing.stratum[drawn[inside & hits]], minlength=len(sizes)) * times
    there = sizes > 0
    return bounds(found[there], count[there], sizes[there], expected[there])


def _part(
    drawing: Drawing,
    drawn: np.ndarray,
    hits: np.ndarray,
    foretold: np.ndarray,
    among: np.ndarray,
) -> tuple[float, float] | None:
    """Bounds on the share of the hits among some images; None where none of them was drawn."""
    if not among[drawn].any():
        return None
    low, high = _bounded(drawing, drawn, hits, foretold, among)
    return float(low / among.sum()), float(high / among.sum())


def _normal(
    drawing: Drawing, drawn: np.ndarray, wrong: np.ndarray, slip: float
) -> tuple[float, float, float]:
    """The difference estimator with its 95 % interval by the normal distribution."""
    n = len(drawing.labels)
    chance = drawing.share[drawing.stratum[drawn]] / drawing.sizes[drawing.stratum[drawn]]
    off = (wrong - drawing.p_wrong[drawn]) / chance
    middle = float(drawing.p_wrong.sum() + off.mean())
    half = HALF * float(off.std(ddof=1)) / len(off) ** 0.5 if len(off) > 1 else float(n)
    ends = (middle, middle - half - slip, middle + half + slip)
    return tuple(min(max(end, 0.0), float(n)) for end in ends)  # type: ignore[return-value]  # three


def _slips(
    drawing: Drawing, known: dict[int, Answer], answers: list[Answer]
) -> tuple[float, int, int]:
    """(wrong labels that may be slips of the person's, images that were asked about twice, of which
    so many were answered otherwise), by stratum: two answers differ where one of them is a slip.
    """
    again = [each for each in answers if each.again and each.row in known]
    if not again:
        return 0.0, 0, 0
    differ = np.array([(each.right != known[each.row].right) for each in again], float)
    where = drawing.stratum[[each.row for each in again]]
    asked = np.bincount(where, minlength=len(drawing.sizes))
    share = np.bincount(where, differ, minlength=len(drawing.sizes)) / np.maximum(asked, 1)
    slip = (1 - np.sqrt(np.maximum(1 - 2 * share, 0.0))) / 2
    return float((slip * drawing.sizes).sum()), len(again), int(differ.sum())


def _more(left: Callable[[float], float], answers: int) -> int | None:
    """How many answers like these would halve the bound on what is left; None for more than a
    thousand times as many.
    """
    aim, times = left(1.0) / 2, [1.0]
    while times[-1] * 1.1 <= 1000:
        times.append(times[-1] * 1.1)
    place = bisect.bisect_left(times, True, key=lambda each: left(each) <= aim)
    return math.ceil((times[place] - 1) * answers) if place < len(times) else None
