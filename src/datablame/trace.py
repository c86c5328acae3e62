"""Trace: what the model said of every example at every epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datablame.base import arrays, devices, processes, renames
from datablame.base.errors import InputError
from datablame.base.readers import LOST, Damaged, read_array
from datablame.base.shapes import Float, Int, Shaped

CHANNELS = {
    "loss": "float16",
    "margin": "float16",
    "entropy": "float16",
    "el2n": "float16",
    "prediction": "int16",
}
"""Name and type on disk of what is recorded. Classes beyond 32,767 would need a wider
`prediction`."""

BEST = {"top": "float16", "top_class": "int16"}
"""Recorded where asked: the probabilities of the likeliest classes, and which they are,
`[T,N,k]`."""

ASKED = {
    "top": "--top-k 5",
    "top_class": "--top-k 5",
    "clean": "--trainer dividemix",
    "temperature": "--trainer data_parameters",
}
"""Channels that are there only where they were asked for, and how."""

BLOCK = 1 << 22
"""Numbers read at a time when a channel is reduced over epochs."""


def observe(
    logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"], top: int = 0
) -> dict[str, Shaped[Tensor, "B ..."]]:
    """Every channel of one batch: cross-entropy in nats, `z_y - max_{k != y} z_k`, entropy in nats,
    `|p - e_y|`, the predicted class; if asked, the probabilities of the `top` likeliest classes and
    which they are."""
    z = logits.detach().float()
    z_y = z.gather(1, labels[:, None])[:, 0]
    log_p = z.log_softmax(1)
    p = log_p.exp()
    p_y = p.gather(1, labels[:, None])[:, 0]
    best = z.topk(max(2, top), 1)
    other = torch.where(best.indices[:, 0] == labels, best.values[:, 1], best.values[:, 0])
    found = {
        "loss": -log_p.gather(1, labels[:, None])[:, 0],
        "margin": z_y - other,
        "entropy": -(p * log_p).sum(1),
        "el2n": (p.square().sum(1) - 2 * p_y + 1).clamp_min(0).sqrt(),
        "prediction": best.indices[:, 0].float(),
    }
    if top:
        which = best.indices[:, :top]
        found |= {"top": p.gather(1, which), "top_class": which.float()}
    return found


class Recorder:
    """Gathers one epoch's rows on the device; one copy to the host an epoch. `top`: how many
    likeliest classes are kept besides; `more`: names of channels of the trainer's own, float16."""

    def __init__(
        self, folder: Path, epochs: int, rows: int, top: int = 0, more: Sequence[str] = ()
    ):
        self.top = top
        kinds = CHANNELS | (BEST if top else {}) | dict.fromkeys(more, "float16")
        shapes = {name: (rows, top) if name in BEST else (rows,) for name in kinds}
        self.held = {
            name: torch.zeros(shape, device=devices.device()) for name, shape in shapes.items()
        }
        self.seen = torch.zeros(rows, dtype=torch.bool, device=devices.device())
        self.waiting: list[tuple[Tensor, Tensor, Tensor]] = []
        self.files = {
            name: arrays.mapped(folder / f"{name}.npy", (epochs, *shapes[name]), kind)
            for name, kind in kinds.items()
        }

    def put(
        self,
        index: Int[Tensor, " B"],
        logits: Float[Tensor, "B K"],
        labels: Int[Tensor, " B"],
        **more: Float[Tensor, " B"],
    ) -> None:
        """Keep what the model says of these examples, and the trainer's own channels.

        Small batches wait for each other: what they say is worked out for many at once.
        """
        device = self.seen.device
        index = index.to(device)
        for name, values in more.items():
            self.held[name][index] = values.to(device)
        self.waiting.append((index, logits.detach().to(device), labels.to(device)))
        if sum(logits.numel() for _, logits, _ in self.waiting) > BLOCK:
            self._observe()

    def _observe(self) -> None:
        if not self.waiting:
            return
        index, logits, labels = map(torch.cat, zip(*self.waiting, strict=True))
        self.waiting = []
        for name, values in observe(logits, labels, self.top).items():
            self.held[name][index] = values
        self.seen[index] = True

    def flush(self) -> None:
        """Have the rows reach the disk."""
        for file in self.files.values():
            file.flush() if isinstance(file, np.memmap) else None

    def write(self, epoch: int) -> None:
        """Put the epoch's row into the files; `flush` has it reach the disk.

        Raises InputError if an example was never seen in the first epoch; later the last row
        stands.
        """
        self._observe()
        here = self.seen.nonzero()[:, 0]
        rows = processes.collected(here)
        times = rows.bincount(minlength=len(self.seen))  # some samplers show a row twice
        lacking = processes.agree(int((times == 0).sum()))
        if epoch == 0 and lacking:
            raise InputError(
                f"{lacking:,} examples were not observed in the first epoch; every example must be "
                "seen"
            )
        for name, file in self.files.items():
            held = processes.collected(self.held[name][here])
            if processes.rank() == 0:
                nothing = torch.full_like(self.held[name], -0.0)  # to which -0.0 can be added
                whole = nothing.index_add_(0, rows, held)
                self._put(file, epoch, whole, times)
        self.seen.zero_()

    @staticmethod
    def _put(file: np.ndarray, epoch: int, whole: Tensor, times: Int[Tensor, " N"]) -> None:
        """An epoch's row of a channel: the mean over the processes that saw an example, or what
        stood there before where none did.
        """
        turn = (slice(None), *[None] * (file.ndim - 2))
        new = (times > 0).cpu().numpy()
        row = (whole / times.clamp_min(1)[turn]).cpu().numpy()
        limits = np.iinfo(file.dtype) if file.dtype.kind == "i" else np.finfo(file.dtype)
        values = np.clip(row, limits.min, limits.max).astype(file.dtype)
        file[epoch] = values if new.all() else np.where(new[turn], values, file[epoch - 1])


class Trace(Mapping[str, np.ndarray]):
    """Channels `[T,N]`, memory-mapped: `loss` (its exp(-loss) is the probability of the given
    label), `margin`, `entropy`, `el2n`, `prediction`; where they were asked for, `top` and
    `top_class` `[T,N,k]`, and what a trainer records besides."""

    def __init__(self, folder: Path, epochs: int, rows: int | None = None):
        self.folder, self.epochs, self.rows = folder, epochs, rows

    def __iter__(self):
        now = {before: name for name, before in renames.CHANNELS.items()}
        return iter(sorted(now.get(path.stem, path.stem) for path in self.folder.glob("*.npy")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, channel: object) -> bool:
        return channel in list(self)

    def __getitem__(self, channel: str) -> np.ndarray:
        path = self.folder / f"{channel}.npy"
        if not path.exists() and channel in renames.CHANNELS:
            path = self.folder / f"{renames.CHANNELS[channel]}.npy"
        if not path.exists():
            how = f"; train with {ASKED[channel]}" if channel in ASKED else ""
            raise InputError(f"no '{channel}' in this trace (it has {', '.join(self)}){how}")
        array = read_array(path)
        if array.ndim < 2 or array.shape[0] < self.epochs or array.dtype.kind not in "fi":
            raise Damaged(path, f"{array.dtype} {list(array.shape)}, {self.epochs} epochs", LOST)
        if self.rows is not None and array.shape[1] != self.rows:
            raise Damaged(path, f"{array.shape[1]:,} examples, expected {self.rows:,}", LOST)
        return array[: self.epochs]

    def at(self, channel: str, epoch: int) -> Float[Tensor, " N"]:
        """One epoch's row."""
        return torch.from_numpy(self[channel][epoch].astype(np.float32))

    def reduce(
        self,
        channel: str,
        function: Callable[[Tensor], Tensor],
        since: float = 0.0,
        until: float = 1.0,
    ) -> Float[Tensor, " N"]:
        """`function([t,n]) -> [n]` over a window of the epochs (shares of their number), a block of
        rows at a time.
        """
        if not 0 <= since < 1:
            raise InputError(
                f"since is a share of the training, from 0 to less than 1; got {since}"
            )
        values = self[channel]
        first = min(int(since * self.epochs), self.epochs - 1)
        values = values[first : max(first + 1, round(until * self.epochs))]
        step = max(1, BLOCK // len(values))
        blocks = range(0, values.shape[1], step)
        return torch.cat(
            [function(torch.from_numpy(values[:, n : n + step].astype(np.float32))) for n in blocks]
        )
