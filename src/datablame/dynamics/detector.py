"""A detector of wrong labels that is learned where they are known, from what a model said of each
example at each epoch. Jia et al., 2023. arXiv:2212.09321 (two LSTM layers of 64 on the probability
of the given label)"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from datablame.base import files, processes, progress, readers, renames
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.base.shapes import Float, Int
from datablame.dynamics.config import PAPER, DetectorConfig
from datablame.dynamics.confusion import PAIRS, Confusion, confusions
from datablame.run import Run

SHIPPED = Path(__file__).parent / "detectors"
WEIGHED = 16
"""Hidden units of the perceptron that weighs the mean of what was seen."""
FEW = 20
"""Classes up to which the detector for few classes is taken."""
BOTH_WAYS, ONE_WAY = 0.084, 0.235
"""Of the 24 runs that `few` was taught on, the highest `surplus` of sure disagreements with uniform
and instance noise, the lowest with pair noise."""
ROWS = 1 << 14
"""Examples looked at together."""


class _LSTM(nn.Module):
    """`forward([N,T,C]) -> [N,T,2]`: logits of right and wrong after each time; the last ones are
    the verdict.
    """

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.pool = config.pool
        self.lstm = nn.LSTM(len(config.names), config.hidden, config.layers, batch_first=True)
        self.head: nn.Module = nn.Linear(config.hidden, 2)
        if config.pool:
            read = nn.Linear(config.hidden + len(config.names), WEIGHED)
            self.head = nn.Sequential(read, nn.ReLU(), nn.Linear(WEIGHED, 2))
        for name, parameter in self.lstm.named_parameters():
            nn.init.orthogonal_(parameter) if "weight" in name else nn.init.constant_(
                parameter, 0.01
            )

    def forward(self, seen: Float[Tensor, "N T C"]) -> Float[Tensor, "N T 2"]:
        out = self.lstm(seen)[0]
        if self.pool:
            weight = torch.arange(1.0, seen.shape[1] + 1, device=seen.device)[
                :, None
            ]  # late times count for more
            out = (weight * torch.cat([out, seen], 2)).cumsum(1) / weight.cumsum(0)
        return self.head(out)


class Detector(Result, nn.Module):
    """An ensemble of LSTMs on the same inputs, differing in initialisation; their mean logits
    `[N,T,2]` are the verdict.
    """

    def __init__(
        self, config: DetectorConfig = DetectorConfig(), about: dict[str, Any] | None = None
    ):
        super().__init__()
        self.config, self.about = config, about or {}
        self.members = nn.ModuleList(_LSTM(config) for _ in range(config.members))

    def forward(self, seen: Float[Tensor, "N T C"]) -> Float[Tensor, "N T 2"]:
        return torch.stack([member(seen) for member in self.members]).mean(0)

    def to_json(self) -> dict[str, Any]:
        """What it was taught on, and its average precision and accuracy on the tenth that was held
        out.
        """
        taught, known = self.about.get("taught_on", []), self.about.get("held_out", {})
        count = len(taught) if isinstance(taught, list) else taught
        return {"taught_on": count, "epochs": self.about.get("epochs"), **known}

    def save(self, path: Path) -> None:
        """Weights as safetensors; what it sees, what it was taught on and how well it did stand in
        the header.
        """
        facts = {
            files.MARK: "a detector",
            "config": json.dumps(dataclasses.asdict(self.config)),
            "about": json.dumps(self.about),
        }
        files.write_tensors(path, self.state_dict(), facts)

    @classmethod
    def load(cls, where: str | Path) -> Detector:
        """A detector that comes with the package, by name; what `save` wrote; or the paper's
        `.pth.tar`.

        Raises InputError for anything that does not fit; nothing is ever unpickled.
        """
        path = file_of(where)
        try:
            if path.suffix == ".safetensors":
                tensors, facts = readers.read_tensors(path)
                weights = {renames.detector(name): tensor for name, tensor in tensors.items()}
                said = readers.parse_json(facts[renames.config_of(facts)], path, {})
                config = {renames.detector(name): value for name, value in said.items()}
                about = readers.parse_json(facts["about"], path, {})
                detector = cls(DetectorConfig(**config), about)
            else:
                state = readers.read_pth(path)
                weights, detector = (
                    _renamed(state.get("state_dict", state)),
                    cls(PAPER[0], {"taught_on": str(path)}),
                )
            detector.load_state_dict(weights)
        except (
            KeyError,
            TypeError,
            AttributeError,
            ValueError,
            RuntimeError,
            OSError,
            *_unreadable(),
        ) as error:
            raise InputError(f"{path} is not a detector: {str(error).splitlines()[0]}") from None
        return detector.eval()

    @torch.inference_mode()
    def probabilities(self, run: Run) -> Float[Tensor, "N T"]:
        """The probability of each label to be wrong, by what was seen up to each time."""
        pairs = confusions(run) if self.config.prior else None
        seen = look(run, self.config, pairs)
        net = self.to(processes.device())
        probability = torch.cat(
            [
                net(part.to(processes.device())).softmax(2)[:, :, 1].cpu()
                for part in seen.split(ROWS)
            ]
        )
        share = prior_of(pairs[1], self.config) if pairs else 0.0
        return (
            _reordered(probability, late_margin(run, probability.shape[1]), share)
            if share
            else probability
        )


def file_of(where: str | Path) -> Path:
    """The file of a detector. Raises InputError where there is none."""
    path = SHIPPED / f"{where}.safetensors" if str(where) in shipped() else Path(where)
    if not path.exists():
        raise InputError(
            f"no detector at {where}; those that come with the package: {', '.join(shipped())}"
        )
    return path


def shipped() -> list[str]:
    """Names of the detectors that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def chosen(run: Run, detector: str) -> str:
    """What `auto` means for a run: the detector for few classes, or for many."""
    return detector if detector != "auto" else "few" if len(run.data.classes) <= FEW else "many"


def _unreadable() -> tuple[type[Exception], ...]:
    """What readers of weights raise for a file of another kind."""
    import pickle

    from safetensors import SafetensorError

    return SafetensorError, pickle.UnpicklingError, EOFError


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The paper's names for the layers (lstm.*, fc.*, perhaps under module.) as ours."""
    found = {}
    for name, tensor in weights.items():
        last = name.rpartition(".")[2]
        found[f"members.0.{'lstm' if '_l' in last else 'head'}.{last}"] = tensor
    return found


def look(
    run: Run, config: DetectorConfig, pairs: tuple[Confusion, Confusion] | None = None
) -> Float[Tensor, "N T C"]:
    """A run's trace as a detector sees it: `points` times (all epochs where 0), its views side by
    side; `pairs`, its confusions, where they are known.

    Raises InputError for a trace of one epoch, or one with a value that is no number.
    """
    trace = run.trace
    if trace.epochs < 2:
        raise InputError(
            f"{run.path} recorded one epoch, which has no dynamics; train for more, or use "
            "another signal"
        )
    count = len(run.data)
    points = config.points or trace.epochs
    seen = torch.empty(count, points, len(config.names))
    for place, name in enumerate(config.names):
        column = seen[:, :, place]
        of = config.plain(name)
        if of in PAIRS:
            pairs = pairs or confusions(run)
            column[:] = PAIRS[of](*pairs)[:, None]
        for rows in torch.arange(count).split(ROWS) if of not in PAIRS else ():
            values = view(run, of, rows)
            if not values.isfinite().all():
                row, epoch = (~values.isfinite()).T.nonzero()[0].tolist()
                raise InputError(
                    f"the trace of {run.path} holds a value that is no number: epoch "
                    f"{epoch + 1} of {run.data.name(int(rows[row]))}"
                )
            column[rows] = pooled(values, points)
        scale = name.removesuffix(of)
        if scale == "rank_":
            column[:] = ranks(column.T).T
        elif scale == "z_":
            column[:] = ((column - column.mean(0)) / column.std(0).clamp_min(1e-6)).clamp(-4, 4)
        elif scale == "class_":
            for label in run.data.labels.unique():
                mine = (run.data.labels == label).nonzero()[:, 0]
                column[mine] = ranks(column[mine].T).T
    return seen


def prior_of(sure: Confusion, config: DetectorConfig) -> float:
    """The share of the prior; the less, the more sure disagreements go one way from class to class,
    as those of look-alikes and of labels drawn by lot do not: there nets know more than margins."""
    return config.prior * min(1.0, max(0.0, (ONE_WAY - sure.surplus()) / (ONE_WAY - BOTH_WAYS)))


def late_margin(run: Run, points: int) -> Float[Tensor, "N T"]:
    """The mean margin over the later half of what was seen up to each time."""
    parts = [
        pooled(view(run, "margin", rows), points)
        for rows in torch.arange(len(run.data)).split(ROWS)
    ]
    total = torch.cat(parts).cumsum(1)
    total = torch.cat([torch.zeros_like(total[:, :1]), total], 1)
    end = torch.arange(1, points + 1)
    return (total[:, end] - total[:, end // 2]) / (end - end // 2)


def _reordered(
    probability: Float[Tensor, "N T"], margin: Float[Tensor, "N T"], share: float
) -> Float[Tensor, "N T"]:
    """The same probabilities at each time, given out in the order of their log-odds and of low
    margins, `share` of the latter, each in its own spread.
    """
    odds = torch.logit(probability.double(), 1e-7)
    said, known = ((x - x.mean(0)) / x.std(0).clamp_min(1e-12) for x in (odds, -margin.double()))
    place = ((1 - share) * said + share * known).argsort(dim=0, stable=True)
    return torch.empty_like(probability).scatter_(0, place, probability.sort(0).values)


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
    **{
        name: lambda run, channel, rows, name=name: channel(name)
        for name in ("loss", "margin", "entropy", "el2n")
    },
}
"""What can be seen of an epoch: `(run, channel, rows) -> [T,n]`."""


def _steady(prediction: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """Is the prediction that of the epoch before? At the first epoch it is."""
    return torch.cat([torch.ones_like(prediction[:1]), (prediction[1:] == prediction[:-1]).float()])


def ranks(values: Float[Tensor, "P N"]) -> Float[Tensor, "P N"]:
    """Rank within each row from 0 to 1; equal values share the mean of theirs."""
    from scipy.stats import rankdata

    return torch.from_numpy(
        (rankdata(values.numpy(), axis=1) - 1) / max(1, values.shape[1] - 1)
    ).float()


def mention(run: Run, detector: Detector) -> None:
    """Say where a detector meets a trace of a length that it was not taught on."""
    taught = detector.about.get("epochs")
    if taught and not min(taught) <= run.trace.epochs <= max(taught):
        progress.say(
            f"the detector was taught on traces of {min(taught)} to {max(taught)} epochs; "
            f"this one has {run.trace.epochs}"
        )
