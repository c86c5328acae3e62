"""What a detector of wrong labels sees of a run: its trace as views side by side, how far the set
was learned at each time, and which class contradicts each label.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool1d

from datablame.base.errors import InputError
from datablame.base.shapes import Float, Int
from datablame.dynamics.config import DetectorConfig
from datablame.run import Run

ROWS = 1 << 14
"""Examples looked at together."""
WORST = 10.0
"""Loss in nats beyond which it makes no difference."""
SETTING = 8
"""Numbers that tell how far the set was learned, at each time."""


@dataclass(frozen=True, eq=False)
class Seen:
    """Of some examples of one set: `views [N,P,C]`; `labels`; `rivals`, the other class that is
    predicted most often for each, and in what share of the epochs, `contradicted`. Of the set:
    `setting [P,SETTING]` and the number of `classes`.

    The setting of a time: the share of examples that are predicted otherwise, the mean probability
    of the given label, the mean entropy over its greatest, the spread of el2n; that share at the
    end; the time, from 0 to 1; a third of the log of the number of classes, and of epochs.
    """

    views: Float[Tensor, "N P C"]
    labels: Int[Tensor, " N"]
    rivals: Int[Tensor, " N"]
    contradicted: Float[Tensor, " N"]
    setting: Float[Tensor, "P S"]
    classes: int

    def take(self, rows: Int[Tensor, " n"]) -> Seen:
        """Some of the examples; what is said of the set stays."""
        return Seen(
            self.views[rows], self.labels[rows], self.rivals[rows], self.contradicted[rows],
            self.setting, self.classes,
        )  # fmt: skip

    def to(self, device: torch.device) -> Seen:
        return Seen(
            self.views.to(device), self.labels.to(device), self.rivals.to(device),
            self.contradicted.to(device), self.setting.to(device), self.classes,
        )  # fmt: skip

    @classmethod
    def of(cls, run: Run, config: DetectorConfig, share: float = 1.0) -> Seen:
        """All examples of a run, by the first `share` of its epochs.

        Raises InputError for a trace of one epoch, and for one that holds what is no number.
        """
        if run.trace.epochs < 2:
            raise InputError(
                f"{run.path} recorded one epoch, which has no dynamics; train for more, or use "
                "another signal"
            )
        epochs = max(min(4, run.trace.epochs), round(share * run.trace.epochs))
        views, labels = look(run, config, epochs), run.data.labels
        if config.net != "reader":
            nothing = torch.zeros_like(labels)
            setting = torch.zeros(views.shape[1], SETTING)
            return cls(views, labels, nothing, nothing.float(), setting, 0)
        rivals, contradicted = rivals_of(run, epochs)
        setting = setting_of(run, epochs, views.shape[1])
        return cls(views, labels, rivals, contradicted, setting, len(run.data.classes))


def look(run: Run, config: DetectorConfig, epochs: int) -> Float[Tensor, "N P C"]:
    """The views of the first epochs of a trace side by side, at `points` times (all epochs where
    0).
    """
    points = config.points or epochs
    seen = torch.empty(len(run.data), points, len(config.names))
    for place, name in enumerate(config.names):
        column, of = seen[:, :, place], config.plain(name)
        for rows in torch.arange(len(run.data)).split(ROWS):
            values = view(run, of, rows)[:epochs]
            if not values.isfinite().all():
                row, epoch = (~values.isfinite()).T.nonzero()[0].tolist()
                raise InputError(
                    f"the trace of {run.path} holds a value that is no number: epoch "
                    f"{epoch + 1} of {run.data.name(int(rows[row]))}"
                )
            column[rows] = pooled(values, points)
        scale = name.removesuffix(of)
        if scale in SCALED:
            column[:] = SCALED[scale](column)
        elif scale:
            within = SCALED[WITHIN[scale]]
            for label in run.data.labels.unique():
                mine = (run.data.labels == label).nonzero()[:, 0]
                column[mine] = within(column[mine])
    return seen


def standard(values: Float[Tensor, "N P"]) -> Float[Tensor, "N P"]:
    """Standard deviations from the mean of each time, up to four."""
    spread = values.std(0, correction=0).clamp_min(1e-6)
    return ((values - values.mean(0)) / spread).clamp(-4, 4)


def ranks(values: Float[Tensor, "P N"]) -> Float[Tensor, "P N"]:
    """Rank within each row from 0 to 1; equal values share the mean of theirs."""
    from scipy.stats import rankdata

    return torch.from_numpy(
        (rankdata(values.numpy(), axis=1) - 1) / max(1, values.shape[1] - 1)
    ).float()


SCALED = {"rank_": lambda column: ranks(column.T).T, "z_": standard}
WITHIN = {"class_": "rank_", "own_": "z_"}
"""The scale that is taken among the examples given the same class."""


def pooled(values: Float[Tensor, "T n"], points: int) -> Float[Tensor, "n P"]:
    """Means over `points` spans of epochs."""
    return adaptive_avg_pool1d(values.T[:, None], points)[:, 0]


def view(run: Run, name: str, rows: Int[Tensor, " n"]) -> Float[Tensor, "T n"]:
    """One view of some examples at every epoch."""
    part = slice(int(rows[0]), int(rows[-1]) + 1)

    def channel(which: str) -> Tensor:
        return torch.from_numpy(run.trace[which][:, part].astype("float32"))

    if name.startswith("top"):
        place = int(name[3:]) - 1
        best = channel("top")
        if place >= best.shape[2]:
            raise InputError(
                f"{run.path} recorded the {best.shape[2]} likeliest classes; got {name}"
            )
        return best[:, :, place]
    return VIEWS[name](run, channel, rows)


VIEWS = {
    "given": lambda run, channel, rows: (-channel("loss")).exp(),
    "rival": lambda run, channel, rows: (-channel("loss") - channel("margin")).exp().clamp_max(1),
    "right": lambda run, channel, rows: (channel("prediction") == run.data.labels[rows]).float(),
    "steady": lambda run, channel, rows: _steady(channel("prediction")),
    "loss": lambda run, channel, rows: channel("loss").clamp_max(WORST),
    **{
        name: lambda run, channel, rows, name=name: channel(name)
        for name in ("margin", "entropy", "el2n")
    },
}
"""What can be seen of an epoch: `(run, channel, rows) -> [T,n]`."""


def _steady(prediction: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """Is the prediction that of the epoch before? At the first epoch it is."""
    return torch.cat([torch.ones_like(prediction[:1]), (prediction[1:] == prediction[:-1]).float()])


def rivals_of(run: Run, epochs: int) -> tuple[Int[Tensor, " N"], Float[Tensor, " N"]]:
    """The other class that is predicted most often for each example in the first epochs, and in
    what share of them; of none, the first other class.
    """
    prediction, labels, classes = run.trace["prediction"], run.data.labels, len(run.data.classes)
    rivals, share = torch.empty_like(labels), torch.empty(len(labels))
    for rows in torch.arange(len(labels)).split(max(1, (1 << 25) // max(classes, epochs))):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        seen = torch.from_numpy(prediction[:epochs, part].astype("int64")).T
        votes = torch.zeros(len(rows), classes).scatter_add_(1, seen, torch.ones(seen.shape))
        most = votes.scatter_(1, labels[part][:, None], -1.0).max(1)
        rivals[part], share[part] = most.indices, most.values / epochs
    return rivals, share


def setting_of(run: Run, epochs: int, points: int) -> Float[Tensor, "P S"]:
    """How far the set was learned at each time: see `Seen`."""
    classes = torch.tensor(float(max(2, len(run.data.classes)))).log()
    count, sums, squares = 0, torch.zeros(epochs, 4), torch.zeros(points)
    for rows in torch.arange(len(run.data)).split(ROWS):
        each = [view(run, name, rows)[:epochs] for name in ("right", "given", "entropy", "el2n")]
        sums += torch.stack([values.sum(1) for values in each], 1)
        squares += pooled(each[3], points).square().sum(0)
        count += len(rows)
    mean = pooled(sums / count, points).T
    wrong = 1 - mean[:, 0]
    spread = (squares / count - mean[:, 3].square()).clamp_min(0).sqrt()
    end = (1 - sums[-1, 0] / count).expand(points)
    time, length = torch.linspace(0, 1, points), torch.tensor(float(epochs)).log()
    known = [wrong, mean[:, 1], mean[:, 2] / classes, spread, end, time]
    return torch.stack([*known, classes.expand(points) / 3, length.expand(points) / 3], 1)
