"""Annotators: how often each is right, and which images deserve another label.

After Dawid, Skene, 1979, and Goh, Tkachenko, Mueller, 2022 (CROWDLAB, arXiv:2210.06812): what the
labels of all say together with the model. An image is worth another label as far as that is
expected to raise the probability of its likeliest class (the value of information; Howard, 1966).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from datablame.base import files, readers, tables
from datablame.base.errors import InputError
from datablame.base.results import Result, table
from datablame.base.shapes import Float, Int
from datablame.data.noise_transition import PULL, confusion, effective
from datablame.label_quality.posterior import Posterior, misfit
from datablame.run import Run

NAME = "annotators.json"
AGAIN = "another_label.csv"
SHARES = (0.01, 0.05, 0.1)
"""Shares of the images for which it is told what another label would bring."""
BLOCK = 1 << 24
"""Probabilities held at a time."""


@dataclass(frozen=True, eq=False, repr=False)
class Annotators(Result):
    """Who labelled a set, and how well.

    Of each annotator the number of labels, the share that the set's labels agree with, the share
    that is right by what is believed of the classes, with the ends of its 95 % interval, and the
    most frequent mistake. `worth [N]` is by how much another label is expected to raise the
    probability that the likeliest class of each image is right; `order [N]` begins with those that
    deserve one most.
    """

    run: Run
    rows: dict[str, dict[str, Any]]
    worth: Float[Tensor, " N"]
    order: Int[Tensor, " N"]

    @property
    def gains(self) -> dict[str, float]:
        """How many more labels would be right, by expectation, if that share of the images got
        another label.
        """
        falling = self.worth[self.order].double().cumsum(0)
        counts = {share: max(1, round(share * len(falling))) for share in SHARES}
        return {f"{share:g}": round(float(falling[n - 1]), 1) for share, n in counts.items()}

    def to_json(self) -> dict[str, Any]:
        """The table, how many labels an image has, on how many the annotators differ, and what
        other labels would bring.
        """
        votes = self.run.data.votes
        assert votes is not None
        many, disputed = float((votes >= 0).sum(1).float().mean()), int(_disputed(votes).sum())
        right = [row["right"] for row in self.rows.values()]
        share, gain = list(self.gains.items())[1]
        sentence = (
            f"{len(right)} annotators, {many:.3g} labels an image; they are right {min(right):.0%} "
            f"to {max(right):.0%} of the time, and differ on {disputed:,} of {len(votes):,} "
            f"images; another label for the first {float(share):.0%} of {AGAIN} would "
            + (f"make about {gain:,.0f} more labels right" if gain >= 0.5 else "change hardly any")
        )
        return {
            "annotators": self.rows,
            "images": len(votes),
            "labels_per_image": round(many, 3),
            "disputed": disputed,
            "gains": self.gains,
            "another_label": str(self.run.path / AGAIN),
            "sentence": sentence,
        }

    def columns(self) -> dict[str, Any]:
        rows = list(self.rows.values())
        names = {"annotator": list(self.rows)}
        return names | {key: [row[key] for row in rows] for key in rows[0]}

    def pictures(self) -> list[Path]:
        home = self.run.path / "figures"
        return [home / "annotators.png", home / "another_label.png"]

    def __str__(self) -> str:
        numbers = {
            name: {key: value for key, value in row.items() if key != "mistake"}
            for name, row in self.rows.items()
        }
        return f"{table(numbers)}\n\n{self['sentence']}"


def annotators(run: Run, found: Posterior) -> Annotators:
    """Judge the annotators by what is believed of the classes, and rank the images; kept in
    annotators.json, annotators.csv and another_label.csv.

    Raises InputError where the labels are of one kind.
    """
    data = run.data
    if data.votes is None:
        raise InputError(
            f"{run.path} has one label an image; name the columns of several annotators with "
            "--label a b c"
        )
    belief = found.belief(data.labels)
    counts = torch.stack([confusion(belief, given) for given in data.votes.T])
    assert found.unshared is not None
    unshared = [_wrong(confusion(found.unshared, given)) for given in data.votes.T]
    rows = {
        name: _quality(run, given, own, alone)
        for name, given, own, alone in zip(
            data.annotators, data.votes.T, counts, unshared, strict=True
        )
    }
    worth = _worth(belief, counts.sum(0), (data.votes >= 0).sum(1).double())
    doubt = 1 - belief.amax(1)
    order = (worth + 1e-6 * doubt).argsort(descending=True, stable=True)
    result = Annotators(run, rows, worth, order)
    tables.write_csv(run.path / "annotators.csv", result.columns())
    tables.write_csv(run.path / AGAIN, _ranked(result, found.p_wrong, belief))
    files.write_json(run.path / NAME, result.to_json())
    return result


def known(run: Run) -> dict[str, Any] | None:
    """What `annotators` kept of a run; None where it has not been asked."""
    path = run.path / NAME
    if not path.exists():
        return None
    return readers.read_json(path, annotators=dict, sentence=str)


def _disputed(votes: Int[Tensor, "N M"]) -> Tensor:
    """Where annotators gave different labels."""
    most = votes.amax(1)
    return (votes.where(votes >= 0, most[:, None]) != most[:, None]).any(1)


def _wrong(counts: Float[Tensor, "K K"]) -> float:
    """How many of the labels are wrong."""
    return float(counts.sum() - counts.diagonal().sum())


def _quality(
    run: Run, given: Int[Tensor, " N"], counts: Float[Tensor, "K K"], unshared: float
) -> dict[str, Any]:
    """What is told of one annotator; `unshared` is how many labels would be wrong if annotators
    erred each by itself.
    """
    rows, classes = given >= 0, run.data.classes
    size, wrong = int(rows.sum()), _wrong(counts)
    least, most = min(wrong, unshared), max(wrong, unshared, 1.0)
    off = counts.clone().fill_diagonal_(0)
    right, label = divmod(int(off.argmax()), len(classes))
    times = float(off.max())
    mistake = f"{classes[right]} as {classes[label]}, about {times:,.0f} times"
    return {
        "labels": size,
        "agreement": round(float((given == run.data.labels)[rows].float().mean()), 4),
        "right": round(1 - wrong / size, 4),
        "low": round(max(0.0, 1 - misfit(most) * most / size), 4),
        "high": round(1 - least / misfit(least) / size, 4),
        "mistake": mistake if times >= 1 else "",
    }


def _worth(
    belief: Float[Tensor, "N K"], counts: Float[Tensor, "K K"], there: Float[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """By how much one more label, by the annotators' mean, is expected to raise the probability of
    the likeliest class: sum_y max_k P(k) T[k, y] - max_k P(k), as far as it says anything new
    beside the labels that are `there [N]`.
    """
    classes = belief.shape[1]
    matrix = counts + PULL / classes
    matrix /= matrix.sum(1, keepdim=True)
    parts = belief.split(max(1, BLOCK // classes**2))
    after = [(part[:, :, None] * matrix).amax(1).sum(1) for part in parts]
    new = (effective(there + 1) - effective(there)).float()
    return new * (torch.cat(after) - belief.amax(1)).clamp_min(0)


def _ranked(
    found: Annotators, wrong: Float[Tensor, " N"], belief: Float[Tensor, "N K"]
) -> dict[str, Any]:
    """A row an image, those that deserve another label first."""
    data, order = found.run.data, found.order
    assert data.votes is not None
    names = pa.array([*data.classes, ""])
    columns = {
        "name": data.names.take(pa.array(order.numpy())),
        "label": names.take(pa.array(data.labels[order].numpy())),
        "likeliest": names.take(pa.array(belief[order].argmax(1).numpy())),
        "p_wrong": wrong[order].numpy().round(4),
        "worth": found.worth[order].numpy().round(4),
    }
    for name, given in zip(data.annotators, data.votes.T, strict=True):
        own = given[order].where(given[order] >= 0, torch.tensor(len(data.classes)))
        columns[f"by {name}"] = names.take(pa.array(own.numpy()))
    return columns
