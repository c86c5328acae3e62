"""Did cleaning help? Runs before and after, paired on the same test images and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datablame.base.errors import InputError
from datablame.base.hashing import seed_of
from datablame.base.results import Result
from datablame.base.shapes import Bool, Int
from datablame.dataset import Dataset
from datablame.inference import predictions
from datablame.run import Run

DRAWS = 2000


@dataclass(frozen=True, repr=False)
class Comparison(Result):
    """Test accuracy with the given labels, after cleaning, and after removing an equal number at
    random; one number a seed.

    `gain` is after minus before with its 95 % interval, `over_random` after minus control.
    `conclusion` is one of "helped", "hurt", "no difference shown"; `detectable` the smallest gain
    that this test set and these seeds could show.
    """

    before: list[float]
    after: list[float]
    control: list[float]
    gain: tuple[float, float, float]
    over_random: tuple[float, float, float] | None
    detectable: float
    test_images: int
    conclusion: str
    undoubted: tuple[int, float, float] | None = None
    """How many labels of the test images are not in doubt, and the accuracy on them before and
    after."""
    caveat: str = ""
    by_truth: bool = False
    """Whether the right labels of the test images are known, and the accuracies are by them."""

    def to_json(self) -> dict[str, Any]:
        """Accuracies, gains, intervals and what they say."""
        return asdict(self) | {"sentence": self.sentence}

    def columns(self) -> dict[str, Any]:
        """A row for each seed: before, after, control."""
        return {"before": self.before, "after": self.after} | (
            {"control": self.control} if self.control else {}
        )

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """The result in words."""
        gain, low, high = (100 * x for x in self.gain)
        seeds = len(self.before)
        text = (
            f"{self.conclusion}: test accuracy {100 * np.mean(self.before):.2f} % before, "
            f"{100 * np.mean(self.after):.2f} % after "
            f"({gain:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}; {seeds} "
            f"seed{'s' * (seeds > 1)}, {self.test_images:,} test images"
            f"{', by their right labels' * self.by_truth})"
        )
        if self.control and self.over_random:
            text += (
                f"; {100 * np.mean(self.control):.2f} % after removing an equal number at random"
            )
        if self.undoubted:
            count, was, now = self.undoubted
            text += (
                f"; {100 * was:.2f} % before and {100 * now:.2f} % after on the {count:,} whose "
                "labels are not in doubt"
            )
        text += f"; {self.caveat}" if self.caveat else ""
        if seeds == 1 and self.conclusion != "no difference shown":
            text += "; one seed does not tell the spread over seeds: --seeds 3 would"
        if self.conclusion == "no difference shown":
            text += (
                f". A gain under {100 * self.detectable:.1f} points cannot be shown with this "
                "test set; use more test images or --seeds"
            )
        return text


@dataclass(frozen=True, eq=False)
class Tried:
    """Runs of the same seeds, tried on the same test images: a run a seed, before, after and with
    the control.
    """

    before: Sequence[Run]
    after: Sequence[Run]
    control: Sequence[Run] = ()
    undoubted: Bool[Tensor, " n"] | None = None
    """Test images whose labels are not in doubt."""

    def rights(self, kind: str) -> Bool[Tensor, "S n"]:
        """Which test images each run gets right.

        Raises InputError where the test sets differ or there is none.
        """
        tests = [run.test for run in (*self.before, *self.after, *self.control)]
        if None in tests:
            raise InputError("a run has no test split: runs are compared on the same test images")
        if len({test.fingerprint for test in tests if test is not None}) > 1:
            raise InputError(
                "these runs were tested on different images, so they cannot be compared"
            )
        return rights(getattr(self, kind))


def comparison(*tried: Tried, caveat: str = "") -> Comparison:
    """Compare runs of the same seeds on the same test images: of a test set, or of several folds,
    whose images are taken together.

    Raises InputError where the test sets differ or there is none.
    """

    def together(kind: str) -> Bool[Tensor, "S n"]:
        return torch.cat([each.rights(kind) for each in tried], 1)

    if any(len(each.before) != len(each.after) for each in tried):
        raise InputError(
            "runs before and after must have the same number of seeds; they have "
            f"{len(tried[0].before)} and {len(tried[0].after)}"
        )
    was, now = together("before"), together("after")
    tests = [each.before[0].test for each in tried]
    known = all(test is not None and test.truth is not None for test in tests)
    gain = interval(now.float() - was.float())
    random = together("control") if tried[0].control else None
    over = interval(now.float() - random.float()) if random is not None else None
    spread = float(was.float().mean(1).std()) if len(was) > 1 else 0.0
    conclusion = "no difference shown"
    if abs(gain[0]) > spread and gain[1] > 0:
        conclusion = "helped"
    elif abs(gain[0]) > spread and gain[2] < 0:
        conclusion = "hurt"
    return Comparison(
        _means(was),
        _means(now),
        _means(random) if random is not None else [],
        gain,
        over,
        max((gain[2] - gain[1]) / 2, spread, 2 / was.shape[1]),
        was.shape[1],
        conclusion,
        None if known else _on_undoubted([each.undoubted for each in tried], was, now),
        caveat,
        known,
    )


def _on_undoubted(
    parts: Sequence[Tensor | None], was: Bool[Tensor, "S n"], now: Bool[Tensor, "S n"]
) -> tuple[int, float, float] | None:
    """How many test labels are not in doubt, and the accuracies on them; None where none was
    asked, or all are in doubt.
    """
    marks = [part for part in parts if part is not None]
    if not marks or not (kept := torch.cat(marks)).any():
        return None
    before, after = (round(float(right[:, kept].float().mean()), 5) for right in (was, now))
    return int(kept.sum()), before, after


def rights(runs: Sequence[Run]) -> Bool[Tensor, "S n"]:
    """Which test images each run gets right, by the truth where it is known."""
    return torch.stack(
        [
            torch.from_numpy(np.array(predictions.on_test(run))).argmax(1) == _right(run.test)
            for run in runs
            if run.test is not None
        ]
    )


def _right(test: Dataset) -> Int[Tensor, " n"]:
    """The labels that are tested on: the truth where it is known, else those that were given."""
    if test.truth is None:
        return test.labels
    return torch.where(test.truth >= 0, test.truth, test.labels)


def _means(right: Bool[Tensor, "S n"]) -> list[float]:
    return [round(x, 5) for x in right.float().mean(1).tolist()]


def interval(difference: Tensor) -> tuple[float, float, float]:
    """Mean of `[S,n]` paired differences with a 95 % interval: images and seeds resampled
    together.
    """
    seeds, images = difference.shape
    generator = torch.Generator().manual_seed(seed_of("comparison"))
    draws = []
    for _ in range(DRAWS):
        weight = (
            torch.randint(images, (images,), generator=generator).bincount(minlength=images).float()
        )
        pick = torch.randint(seeds, (seeds,), generator=generator)
        draws.append((difference[pick].mean(0) @ weight).item() / images)
    draws.sort()
    return float(difference.mean()), draws[int(0.025 * DRAWS)], draws[int(0.975 * DRAWS)]
