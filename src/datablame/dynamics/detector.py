"""A detector of wrong labels that is learned where they are known, from what a model said of each
example at each epoch. Jia et al., 2023. arXiv:2212.09321 (two LSTM layers of 64 on the probability
of the given label); the net that comes with the package is `reader`.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datablame.base import arrays, devices, files, progress, readers
from datablame.base.errors import InputError
from datablame.base.results import Result
from datablame.base.shapes import Float
from datablame.dynamics.config import PAPER, DetectorConfig
from datablame.dynamics.reader import Reader
from datablame.dynamics.views import ROWS, Seen
from datablame.run import Run

SHIPPED = Path(__file__).parent / "shipped.safetensors"
"""The detector that comes with the package, and its name."""


class LSTM(nn.Module):
    """`forward(Seen) -> [1,N]`: log-odds that each label is wrong, after the last time."""

    def __init__(self, config: DetectorConfig):
        super().__init__()
        self.lstm = nn.LSTM(len(config.names), config.hidden, config.layers, batch_first=True)
        self.head = nn.Linear(config.hidden, 2)
        for name, parameter in self.lstm.named_parameters():
            nn.init.orthogonal_(parameter) if "weight" in name else nn.init.constant_(
                parameter, 0.01
            )

    def forward(self, seen: Seen) -> Float[Tensor, "1 N"]:
        right, wrong = self.head(self.lstm(seen.views)[0][:, -1]).unbind(1)
        return (wrong - right)[None]


NETS = {"reader": Reader, "lstm": LSTM}


class Detector(Result, nn.Module):
    """Nets on the same inputs, differing in initialisation; the mean of their log-odds, of the last
    stage where a net has several, is the verdict.
    """

    def __init__(
        self, config: DetectorConfig = DetectorConfig(), about: dict[str, Any] | None = None
    ):
        super().__init__()
        self.config, self.about = config, about or {}
        self.members = nn.ModuleList(NETS[config.net](config) for _ in range(config.members))

    def forward(self, seen: Seen) -> Float[Tensor, " N"]:
        """Log-odds that each label is wrong."""
        return torch.stack([member(seen)[-1] for member in self.members]).mean(0)

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
        arrays.write_tensors(path, self.state_dict(), facts)

    @classmethod
    def load(cls, where: str | Path) -> Detector:
        """A detector that comes with the package, by name; what `save` wrote; or the paper's
        `.pth.tar`.

        Raises InputError for anything that does not fit; nothing is ever unpickled.
        """
        path = file_of(where)
        try:
            if path.suffix == ".safetensors":
                weights, facts = readers.read_tensors(path)
                if "sight" in facts or "net" not in facts["config"]:
                    raise InputError(
                        f"{path} was taught by an earlier version of datablame, whose nets are "
                        "read no longer; teach it again: datablame detector teach RUN ..."
                    )
                config = readers.parse_json(facts["config"], path, {})
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
    def probabilities(self, run: Run) -> Float[Tensor, " N"]:
        """The probability of each label to be wrong."""
        seen, device = Seen.of(run, self.config), devices.device()
        net = self.to(device)
        if self.config.net == "reader":  # of the whole set at once
            return net(seen.to(device)).sigmoid().cpu()
        rows = torch.arange(len(seen.labels)).split(ROWS)
        return torch.cat([net(seen.take(part).to(device)).sigmoid().cpu() for part in rows])


def file_of(where: str | Path) -> Path:
    """The file of a detector. Raises InputError where there is none."""
    path = SHIPPED if str(where) == SHIPPED.stem else Path(where)
    if not path.exists():
        raise InputError(
            f"no detector at {where}; the one that comes with the package is named {SHIPPED.stem}"
        )
    return path


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


def mention(run: Run, detector: Detector) -> None:
    """Say where a detector meets a trace of a length that it was not taught on."""
    taught = detector.about.get("epochs")
    if taught and not min(taught) <= run.trace.epochs <= max(taught):
        progress.say(
            f"the detector was taught on traces of {min(taught)} to {max(taught)} epochs; "
            f"this one has {run.trace.epochs}"
        )
