"""Trace: what the model said of every example at every epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from datablame.ground import store, world
from datablame.ground.errors import InputError

CHANNELS = {"loss": "float16", "margin": "float16", "entropy": "float16", "el2n": "float16", "guess": "int16"}
"""Name and type on disk of what is recorded. Classes beyond 32,767 would need a wider `guess`."""

BLOCK = 1 << 22
"""Numbers read at a time when a channel is reduced over epochs."""


def observe(logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"]) -> dict[str, Float[Tensor, " B"]]:
    """Every channel of one batch: cross-entropy in nats, `z_y - max_{k != y} z_k`, entropy in nats, `|p - e_y|`, the predicted class."""
    z = logits.detach().float()
    z_y = z.gather(1, labels[:, None])[:, 0]
    log_p = z.log_softmax(1)
    p = log_p.exp()
    p_y = p.gather(1, labels[:, None])[:, 0]
    best = z.topk(2, 1)
    other = torch.where(best.indices[:, 0] == labels, best.values[:, 1], best.values[:, 0])
    return {
        "loss": -log_p.gather(1, labels[:, None])[:, 0],
        "margin": z_y - other,
        "entropy": -(p * log_p).sum(1),
        "el2n": (p.square().sum(1) - 2 * p_y + 1).clamp_min(0).sqrt(),
        "guess": best.indices[:, 0].float(),
    }


class Recorder:
    """Gathers one epoch's rows on the device; one copy to the host an epoch."""

    def __init__(self, folder: Path, epochs: int, rows: int):
        self.held = torch.full((len(CHANNELS), rows), 0.0, device=world.device())
        self.seen = torch.zeros(rows, dtype=torch.bool, device=world.device())
        self.files = {
            name: store.open_array(folder / f"{name}.npy", (epochs, rows), kind) for name, kind in CHANNELS.items()
        }

    def put(self, index: Int[Tensor, " B"], logits: Float[Tensor, "B K"], labels: Int[Tensor, " B"]) -> None:
        """Keep what the model says of these examples."""
        index, logits, labels = (each.to(self.held.device) for each in (index, logits, labels))
        self.held[:, index] = torch.stack(list(observe(logits, labels).values()))
        self.seen[index] = True

    def write(self, epoch: int) -> None:
        """Put the epoch's row on disk. Raises InputError if an example was never seen in the first epoch; later the last row stands."""
        seen = world.total(self.seen.int())
        if epoch == 0 and not seen.all():
            raise InputError(
                f"{int((seen == 0).sum()):,} examples were not observed in the first epoch; every example must be seen"
            )
        held = world.total(torch.where(self.seen, self.held, 0.0)) / seen.clamp_min(1)  # some samplers show a row twice
        held = held.cpu().numpy()
        new = (seen > 0).cpu().numpy()
        for row, file in zip(held, self.files.values(), strict=True):
            limits = np.iinfo(file.dtype) if file.dtype.kind == "i" else np.finfo(file.dtype)
            values = np.clip(row, limits.min, limits.max).astype(file.dtype)
            file[epoch] = values if new.all() else np.where(new, values, file[epoch - 1])
            file.flush() if isinstance(file, np.memmap) else None
        self.seen.zero_()


class Trace(Mapping[str, np.ndarray]):
    """Channels `[T,N]`, memory-mapped: `loss`, `margin`, `entropy`, `el2n`, `guess`, and `given` = exp(-loss)."""

    def __init__(self, folder: Path, epochs: int):
        self.folder, self.epochs = folder, epochs

    def __iter__(self):
        return (path.stem for path in sorted(self.folder.glob("*.npy")))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, channel: str) -> np.ndarray:
        path = self.folder / f"{channel}.npy"
        if not path.exists():
            raise InputError(f"no '{channel}' in this trace (it has {', '.join(self)})")
        return np.load(path, mmap_mode="r", allow_pickle=False)[: self.epochs]

    def at(self, channel: str, epoch: int) -> Float[Tensor, " N"]:
        """One epoch's row."""
        return torch.from_numpy(self[channel][epoch].astype(np.float32))

    def reduce(self, channel: str, function, since: float = 0.0, until: float = 1.0) -> Float[Tensor, " N"]:  # noqa: ANN001 - [t,n] -> [n]
        """`function([t,n]) -> [n]` over a window of the epochs (shares of their number), a block of rows at a time."""
        values = self[channel]
        first = min(int(since * self.epochs), self.epochs - 1)
        values = values[first : max(first + 1, round(until * self.epochs))]
        step = max(1, BLOCK // len(values))
        blocks = range(0, values.shape[1], step)
        return torch.cat([function(torch.from_numpy(values[:, n : n + step].astype(np.float32))) for n in blocks])
