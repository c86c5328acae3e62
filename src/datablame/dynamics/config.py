"""DetectorTraining: what a detector of wrong labels sees of a trace, and how it is taught."""

from __future__ import annotations

import math
from dataclasses import dataclass

from datablame.base.errors import InputError, at_least, unknown

VIEWS = ("given", "rival", "right", "steady", "loss", "margin", "entropy", "el2n")
SCALES = ("rank", "class", "z", "own")
NETS = ("reader", "lstm")


@dataclass(frozen=True)
class DetectorConfig:
    """What a detector sees of a trace, and how large it is."""

    net: str = "reader"
    """reader: looks at a whole set, learns from how far the set was learned which times tell, and
    counts which classes are given for which; lstm: the paper's, one example at a time."""
    views: str = "z_margin+class_margin+z_entropy+z_el2n+own_el2n+z_given+z_right+z_loss"
    """What is seen of each epoch, joined by +: given (probability of the given label), rival (of
    the likeliest other class), right (is the given label the prediction), steady (is the prediction
    that of the epoch before), loss, margin, entropy, el2n, top1, top2, ... (the likeliest classes,
    where they were recorded). Before a name, rank_ asks for the rank within the set, class_ for
    that among those given the same class, z_ for standard deviations from the set's mean, own_ for
    those from the mean of the given class."""
    points: int = 16
    """Relative times at which a trace is read, the mean over the epochs between; 0: every epoch as
    it is, as the paper does."""
    hidden: int = 16
    """Hidden units: of the reader's perceptrons, of each LSTM layer."""
    heads: int = 3
    """Ways in which the reader weighs times."""
    layers: int = 1
    """LSTM layers."""
    members: int = 3
    """Nets that are taught side by side from different weights; their mean is the verdict."""

    def __post_init__(self) -> None:
        for name in self.names:
            of = self.plain(name)
            if of not in VIEWS and not (of.startswith("top") and of[3:].isdigit() and int(of[3:])):
                raise unknown("view of a trace", name, [*VIEWS, "top1"])
        if self.net not in NETS:
            raise unknown("net of a detector", self.net, NETS)
        at_least(0, 10_000, points=self.points)
        at_least(1, 4096, hidden=self.hidden)
        at_least(1, 64, layers=self.layers, members=self.members, heads=self.heads)

    @staticmethod
    def plain(name: str) -> str:
        """The view without its scale."""
        scale, _, rest = name.partition("_")
        return rest if scale in SCALES else name

    @property
    def names(self) -> list[str]:
        return self.views.split("+")


@dataclass(frozen=True)
class DetectorTraining:
    """How a detector is taught.

    The defaults are those of the detector that comes with the package.
    """

    epochs: int = 15
    """Passes over the traces; the reader sees each whole, and its first 60 % and 30 %."""
    batch_size: int = 2048
    """Examples whose verdicts are judged in a step, all of one run: a ranking is within a set."""
    lr: float = 0.0
    """Peak rate of AdamW; 0 is 0.01, or with --paper the paper's 0.1."""
    one_cycle: bool = True
    """Let the rate rise for a tenth of the time and fall to nothing by a cosine; else it is
    constant."""
    loss: str = "ranking"
    """ranking: smooth average precision plus cross-entropy; or cross_entropy alone."""
    select: str = "average_precision"
    """Which epoch's weights are kept: the best average_precision, or the best accuracy, on the
    tenth of the examples that is held out."""
    seed: int = 0
    """Of weights, order and what is held out."""

    def __post_init__(self) -> None:
        for name, allowed in (
            ("loss", ("ranking", "cross_entropy")),
            ("select", ("average_precision", "accuracy")),
        ):
            if getattr(self, name) not in allowed:
                raise unknown(name, getattr(self, name), allowed)
        at_least(1, 100_000, epochs=self.epochs)
        at_least(1, batch_size=self.batch_size)
        if not 0 <= self.lr < math.inf:
            raise InputError(f"lr must be 0 or more; got {self.lr}")


PAPER = (
    DetectorConfig(net="lstm", views="given", points=0, hidden=64, layers=2, members=1),
    DetectorTraining(
        epochs=10, batch_size=64, lr=0.1, one_cycle=False, loss="cross_entropy", select="accuracy"
    ),
)
"""Jia et al., 2023: the probability of the given label at every epoch, AdamW at a constant rate,
the best accuracy kept."""
