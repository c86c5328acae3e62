"""A detector of wrong labels that is learned where they are known, from what a model said of each example at each epoch.
Jia et al., 2023. arXiv:2212.09321 (two LSTM layers of 64 on the probability of the given label)"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool1d

from datablame.evidence.confusion import PAIRS, Confusion, confusions
from datablame.ground import clock, store, world
from datablame.ground.errors import InputError
from datablame.lesson import PAPER, Sight
from datablame.run import Run

SHIPPED = Path(__file__).parent.parent / "detectors"
WEIGHED = 16
"""Hidden units of the perceptron that weighs the mean of what was seen."""
FEW = 20
"""Classes up to which the detector for few classes is taken."""
BOTH_WAYS, ONE_WAY = 0.084, 0.235
"""Of the 24 runs that `few` was taught on, the highest `surplus` of sure disagreements with uniform and instance noise, the lowest with pair noise."""
ROWS = 1 << 14
"""Examples looked at together."""


class Reader(nn.Module):
    """`forward([N,T,C]) -> [N,T,2]`: logits of right and wrong after each time; the last ones are the verdict."""

    def __init__(self, sight: Sight):
        super().__init__()
        self.pool = sight.pool
        self.lstm = nn.LSTM(len(sight.names), sight.hidden, sight.layers, batch_first=True)
        self.head: nn.Module = nn.Linear(sight.hidden, 2)
        if sight.pool:
            read = nn.Linear(sight.hidden + len(sight.names), WEIGHED)
            self.head = nn.Sequential(read, nn.ReLU(), nn.Linear(WEIGHED, 2))
        for name, parameter in self.lstm.named_parameters():
            nn.init.orthogonal_(parameter) if "weight" in name else nn.init.constant_(parameter, 0.01)

    def forward(self, seen: Float[Tensor, "N T C"]) -> Float[Tensor, "N T 2"]:
        out = self.lstm(seen)[0]
        if self.pool:
            weight = torch.arange(1.0, seen.shape[1] + 1, device=seen.device)[:, None]  # late times count for more
            out = (weight * torch.cat([out, seen], 2)).cumsum(1) / weight.cumsum(0)
        return self.head(out)


class Detector(nn.Module):
    """Several readers of the same sight, who differ in where they began to learn; their mean logits `[N,T,2]` are the verdict."""

    def __init__(self, sight: Sight = Sight(), about: dict[str, Any] | None = None):
        super().__init__()
        self.sight, self.about = sight, about or {}
        self.readers = nn.ModuleList(Reader(sight) for _ in range(sight.readers))

    def forward(self, seen: Float[Tensor, "N T C"]) -> Float[Tensor, "N T 2"]:
        return torch.stack([reader(seen) for reader in self.readers]).mean(0)

    def save(self, path: Path) -> None:
        """Weights as safetensors; what it sees, what it was taught on and how well it did stand in the header."""
        facts = {"sight": json.dumps(dataclasses.asdict(self.sight)), "about": json.dumps(self.about)}
        store.write_tensors(path, self.state_dict(), facts)

    @classmethod
    def load(cls, where: str | Path) -> Detector:
        """A detector that comes with the package, by name; what `save` wrote; or the paper's `.pth.tar`.

        Raises InputError for anything that does not fit; nothing is ever unpickled.
        """
        path = file_of(where)
        try:
            if path.suffix == ".safetensors":
                from safetensors import safe_open

                with safe_open(path, "pt") as file:
                    facts = file.metadata() or {}
                    weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                detector = cls(Sight(**json.loads(facts["sight"])), json.loads(facts["about"]))
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
                weights, detector = renamed(state.get("state_dict", state)), cls(PAPER[0], {"taught_on": str(path)})
            detector.load_state_dict(weights)
        except (KeyError, TypeError, AttributeError, ValueError, RuntimeError, OSError, *unreadable()) as error:
            raise InputError(f"{path} is not a detector: {str(error).splitlines()[0]}") from None
        return detector.eval()

    @torch.inference_mode()
    def chances(self, run: Run) -> Float[Tensor, "N T"]:
        """The chance of each label to be wrong, by what was seen up to each time."""
        pairs = confusions(run) if self.sight.prior else None
        seen = look(run, self.sight, pairs)
        net = self.to(world.device())
        chance = torch.cat([net(part.to(world.device())).softmax(2)[:, :, 1].cpu() for part in seen.split(ROWS)])
        share = prior_of(pairs[1], self.sight) if pairs else 0.0
        return reordered(chance, late_margin(run, chance.shape[1]), share) if share else chance


def file_of(where: str | Path) -> Path:
    """The file of a detector. Raises InputError where there is none."""
    path = SHIPPED / f"{where}.safetensors" if str(where) in shipped() else Path(where)
    if not path.exists():
        raise InputError(f"no detector at {where}; those that come with the package: {', '.join(shipped())}")
    return path


def shipped() -> list[str]:
    """Names of the detectors that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def chosen(run: Run, detector: str) -> str:
    """What `auto` means for a run: the detector for few classes, or for many."""
    return detector if detector != "auto" else "few" if len(run.data.classes) <= FEW else "many"


def unreadable() -> tuple[type[Exception], ...]:
    """What readers of weights raise for a file of another kind."""
    import pickle

    from safetensors import SafetensorError

    return SafetensorError, pickle.UnpicklingError, EOFError


def renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The paper's names for the layers (lstm.*, fc.*, perhaps under module.) as ours."""
    return {
        f"readers.0.{'lstm' if '_l' in name.rpartition('.')[2] else 'head'}.{name.rpartition('.')[2]}": weights[name]
        for name in weights
    }


def look(run: Run, sight: Sight, pairs: tuple[Confusion, Confusion] | None = None) -> Float[Tensor, "N T C"]:
    """A run's trace as a detector sees it: `points` times (all epochs where 0), its views side by side; `pairs`, its confusions, where they are known.

    Raises InputError for a trace of one epoch, or one with a value that is no number.
    """
    trace = run.trace
    if trace.epochs < 2:
        raise InputError(f"{run.path} recorded one epoch, which has no dynamics; train for more, or use another signal")
    count = len(run.data)
    points = sight.points or trace.epochs
    seen = torch.empty(count, points, len(sight.names))
    for place, name in enumerate(sight.names):
        column = seen[:, :, place]
        of = sight.plain(name)
        if of in PAIRS:
            pairs = pairs or confusions(run)
            column[:] = PAIRS[of](*pairs)[:, None]
        for rows in torch.arange(count).split(ROWS) if of not in PAIRS else ():
            values = view(run, of, rows)
            if not values.isfinite().all():
                row, epoch = (~values.isfinite()).T.nonzero()[0].tolist()
                raise InputError(
                    f"the trace of {run.path} holds a value that is no number: epoch {epoch + 1} of {run.data.name(int(rows[row]))}"
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


def prior_of(sure: Confusion, sight: Sight) -> float:
    """The share of the prior; the less, the more sure disagreements go one way from class to class, as those of look-alikes and of labels drawn by
    lot do not: there nets know more than margins."""
    return sight.prior * min(1.0, max(0.0, (ONE_WAY - sure.surplus()) / (ONE_WAY - BOTH_WAYS)))


def late_margin(run: Run, points: int) -> Float[Tensor, "N T"]:
    """The mean margin over the later half of what was seen up to each time."""
    parts = [pooled(view(run, "margin", rows), points) for rows in torch.arange(len(run.data)).split(ROWS)]
    total = torch.cat(parts).cumsum(1)
    total = torch.cat([torch.zeros_like(total[:, :1]), total], 1)
    end = torch.arange(1, points + 1)
    return (total[:, end] - total[:, end // 2]) / (end - end // 2)


def reordered(chance: Float[Tensor, "N T"], margin: Float[Tensor, "N T"], share: float) -> Float[Tensor, "N T"]:
    """The same chances at each time, given out in the order of their log-odds and of low margins, `share` of the latter, each in its own spread."""
    odds = torch.logit(chance.double(), 1e-7)
    said, known = ((x - x.mean(0)) / x.std(0).clamp_min(1e-12) for x in (odds, -margin.double()))
    place = ((1 - share) * said + share * known).argsort(dim=0, stable=True)
    return torch.empty_like(chance).scatter_(0, place, chance.sort(0).values)


def pooled(values: Float[Tensor, "T n"], points: int) -> Float[Tensor, "n P"]:
    """Means over as many spans of epochs as there are points."""
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
            raise InputError(f"{run.path} recorded the {best.shape[2]} likeliest classes; {name} was asked")
        return best[:, :, place]
    return VIEWS[name](run, channel, rows)


VIEWS = {
    "given": lambda run, channel, rows: (-channel("loss")).exp(),
    "rival": lambda run, channel, rows: (-channel("loss") - channel("margin")).exp().clamp_max(1),
    "right": lambda run, channel, rows: (channel("guess") == run.data.labels[rows]).float(),
    "steady": lambda run, channel, rows: steady(channel("guess")),
    **{name: lambda run, channel, rows, name=name: channel(name) for name in ("loss", "margin", "entropy", "el2n")},
}
"""What can be seen of an epoch: `(run, channel, rows) -> [T,n]`."""


def steady(guess: Float[Tensor, "T n"]) -> Float[Tensor, "T n"]:
    """Is the prediction that of the epoch before? At the first epoch it is."""
    return torch.cat([torch.ones_like(guess[:1]), (guess[1:] == guess[:-1]).float()])


def ranks(values: Float[Tensor, "P N"]) -> Float[Tensor, "P N"]:
    """Rank within each row from 0 to 1; equal values share the mean of theirs."""
    order = values.sort(1)
    count = values.shape[1]
    place = torch.arange(count, dtype=torch.float64).expand_as(values)
    first = torch.cat([torch.ones_like(order.values[:, :1], dtype=torch.bool), order.values.diff(dim=1) != 0], 1)
    group = first.cumsum(1) - 1
    total = torch.zeros_like(place).scatter_add_(1, group, place)
    size = torch.zeros_like(place).scatter_add_(1, group, torch.ones_like(place))
    mean = (total / size.clamp_min(1)).gather(1, group) / max(1, count - 1)
    return torch.zeros_like(values).scatter_(1, order.indices, mean.float())


def mention(run: Run, detector: Detector) -> None:
    """Say where a detector meets a trace of a length that it was not taught on."""
    taught = detector.about.get("epochs")
    if taught and not min(taught) <= run.trace.epochs <= max(taught):
        clock.say(
            f"the detector was taught on traces of {min(taught)} to {max(taught)} epochs; this one has {run.trace.epochs}"
        )
