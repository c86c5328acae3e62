"""Ranks: the only file that knows that there may be several processes, on one machine or many.

Every process runs the same program. A batch is split over them, what each saw is summed or
gathered, and rank 0 writes.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # it has both

from datablame.base.devices import beside, device
from datablame.base.errors import InputError, RunError
from datablame.base.shapes import Int, Shaped

T = TypeVar("T")

LAUNCHER = "the launcher of this process has ended; run the same command to resume"
PEER = "another of the processes has ended; run the same command to resume"
BEAT, LOST = 3.0, 45.0
"""Seconds between two signs of life of a process, and after which one without them is lost."""
ENDED = "ended"
"""The last sign of a process that has done all that it had to."""
BUCKET = 1 << 22
"""Bytes of gradients that are sent together, while the backward pass goes on."""


class _Group:
    """What is known of the processes beside this one."""

    store: Any = None
    voice: bool | None = None
    left, failed = threading.Event(), False
    heard = 0.0
    threads: tuple[threading.Thread, ...] = ()


def start() -> None:
    """Join the other processes when started by `torchrun`; alone otherwise. Messages come from rank
    0.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        patience = datetime.timedelta(hours=24)  # rank 0 may be decoding a large set
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=patience)
        logging.getLogger("datablame").disabled = dist.get_rank() != 0
        mark = agree(os.urandom(8).hex())  # those who were started before may have left something
        _Group.store, theirs, _Group.heard = _store(mark), _store(mark), time.monotonic()
        _Group.threads = (
            threading.Thread(target=_watch, args=(os.getppid(),), daemon=True),
            threading.Thread(target=_beat, args=(theirs,), daemon=True),
        )
        _Group.left.clear()
        for thread in _Group.threads:
            thread.start()
        atexit.register(stop)  # no thread may be at work when the program ends


def _store(mark: str) -> Any:
    """A connection of its own to where the processes found each other, for those of a mark."""
    where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    wait = datetime.timedelta(seconds=LOST)
    plain = TCPStore(*where, is_master=False, wait_for_workers=False, timeout=wait)
    return PrefixStore(f"datablame/{mark}", plain)


def _watch(launcher: int) -> None:
    """End this process once the program that started it has ended, or the next rank gives no sign
    of life: its machine may be gone without a word.
    """
    while not _Group.left.wait(0.5):
        if os.getppid() != launcher:
            _end(LAUNCHER)
        if time.monotonic() - _Group.heard > LOST:
            _end(PEER)


def _beat(store: Any) -> None:
    """Give signs of life, and hear those of the next rank: each listens to one, so that the last
    one standing knows of all. Where nobody answers, this waits for ever, and hears nothing.
    """
    mine, other, seen, turn = str(rank()), str((rank() + 1) % size()), b"", 0
    while True:
        turn += 1
        if _Group.left.is_set() and _Group.failed:
            return
        with contextlib.suppress(RuntimeError):
            store.set(mine, ENDED if _Group.left.is_set() else str(turn))
            said = store.get(other) if store.check([other]) else b""
            if said != seen or said == ENDED.encode():
                seen, _Group.heard = said, time.monotonic()
        if _Group.left.is_set():
            return
        _Group.left.wait(BEAT)


def _end(why: str) -> None:
    """End this process at once, in a sentence."""
    if speaks():
        print(f"datablame: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def speaks(own: bool = False) -> bool:
    """Whether this process may say why all end: the first of them that asks, so that an error is
    said once. Where nobody answers, the first of its machine; but a reason of its `own` is not the
    first one where who would answer has ended already.
    """
    answers: list[bool] = []
    alone = os.environ.get("LOCAL_RANK", "0") == "0"  # of this machine

    def ask() -> None:
        try:
            answers.append(_Group.store.add("spoken", 1) == 1)
        except RuntimeError:
            answers.append(alone and not own)

    if _Group.voice is None and _Group.store is not None:
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(BEAT)
    if _Group.voice is None:
        _Group.voice = answers[0] if answers else alone
    return _Group.voice


def lost(error: BaseException) -> bool:
    """Whether an error means that another process has ended."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset")
    return any(word in str(error) for word in words)


def fail(error: BaseException) -> None:
    """Say, before the others notice it, that this process ends without having done its work."""
    _Group.failed = True
    speaks(own=not lost(error))


def stop() -> None:
    """Leave the other processes."""
    _Group.left.set()
    for thread in _Group.threads:
        thread.join(BEAT)
    _Group.threads = ()
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Of this process, from 0; 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def machines() -> int:
    """How many machines the processes run on, at least."""
    return -(-size() // beside())


def machine() -> str:
    """The name of this process's machine."""
    return socket.gethostname()


def shard(batch: Int[Tensor, " B"]) -> Int[Tensor, " b"]:
    """This process's part of a batch; the parts of all processes, in order of rank, are the
    batch.
    """
    return batch.tensor_split(size())[rank()]


def total(tensor: Tensor) -> Tensor:
    """Sum over the processes, in place."""
    if size() > 1:
        dist.all_reduce(tensor)
    return tensor


def added(tensor: Tensor, owner: int) -> Tensor:
    """The sum over the processes, at one of them; at the others an empty tensor, so that their part
    need not be held.
    """
    if size() == 1:
        return tensor
    whole = tensor.contiguous()
    dist.reduce(whole, owner)
    return whole if rank() == owner else whole.new_zeros(0)


def owners(work: Sequence[float]) -> list[int]:
    """Which process does each piece of work: the longest first, each by who has least to do."""
    load, found = [0.0] * size(), [0] * len(work)
    for piece in sorted(range(len(work)), key=lambda piece: -work[piece]):
        found[piece] = load.index(min(load))
        load[found[piece]] += work[piece]
    return found


def spread(tensors: dict[str, Tensor], owner: int) -> dict[str, Tensor]:
    """Tensors by name of one process, at all; those of a name that they have are not sent."""
    if size() == 1:
        return tensors
    facts = [[name, list(each.shape), str(each.dtype)[6:]] for name, each in tensors.items()]
    whole: dict[str, Tensor] = {}
    had = agree(list(tensors), (owner + 1) % size())
    for name, shape, kind in agree(facts, owner):
        if rank() == owner or name in had:
            whole[name] = tensors[name].contiguous()
        else:
            whole[name] = torch.empty(shape, dtype=getattr(torch, kind), device=device())
        if name not in had and whole[name].numel():
            dist.broadcast(whole[name], owner)
    return whole


def _parts(count: int) -> list[int]:
    """How many of `count` rows each process has, as `shard` splits them."""
    return [count // size() + (rank < count % size()) for rank in range(size())]


def _padded(part: Shaped[Tensor, "b ..."], rows: int) -> Shaped[Tensor, "r ..."]:
    """A part with empty rows up to so many, as all processes must send the same."""
    if len(part) == rows:
        return part.contiguous()
    return torch.cat([part, part.new_zeros(rows - len(part), *part.shape[1:])])


def together(part: Shaped[Tensor, "b ..."], count: int) -> Shaped[Tensor, "B ..."]:
    """The parts of `count` rows that the processes hold, as `shard` made them; gradients find their
    way back to each.
    """
    return part if size() == 1 else _Together.apply(part, count)  # type: ignore[return-value]  # a tensor


class _Together(torch.autograd.Function):
    """`together`: each row is sent once to each process."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int) -> Tensor:
        parts = _parts(count)
        ctx.low = sum(parts[: rank()])
        ctx.rows = len(part)
        mine = _padded(part.detach().to(device()), parts[0])
        every = [torch.empty_like(mine) for _ in parts]
        dist.all_gather(every, mine)
        whole = torch.cat([one[:rows] for one, rows in zip(every, parts, strict=True)])
        return whole.to(part.device)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        whole = total(slope.to(device(), copy=True).contiguous()).to(slope.device)
        return whole[ctx.low : ctx.low + ctx.rows], None


def collected(part: Shaped[Tensor, "b ..."], count: int | None = None) -> Shaped[Tensor, "B ..."]:
    """At rank 0 the parts of all processes, in order of rank; elsewhere no rows. Of `count` rows
    that `shard` split; without it, each has as many as it has.
    """
    if size() == 1:
        return part
    if count is None:
        counts = torch.zeros(size(), dtype=torch.int64, device=device())
        counts[rank()] = len(part)
        parts: list[int] = total(counts).tolist()
    else:
        parts = _parts(count)
    mine = _padded(part.to(device()), max(parts))
    every = [torch.empty_like(mine) for _ in parts] if rank() == 0 else None
    dist.gather(mine, every, 0)
    if every is None:
        return part[:0]
    whole = torch.cat([one[:rows] for one, rows in zip(every, parts, strict=True)])
    return whole.to(part.device)


def agree(value: T, source: int = 0) -> T:
    """What rank 0, or another, says: text, numbers, and lists of them, sent as JSON."""
    if size() == 1:
        return value
    text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device())
    length = torch.tensor([len(text)], device=device())
    dist.broadcast(length, src=source)
    if rank() != source:
        text = text.new_empty(int(length))
    dist.broadcast(text, src=source)
    return json.loads(text.cpu().numpy().tobytes())


def which(mine: bool) -> list[int]:
    """The ranks of which something is so."""
    here = torch.zeros(size(), dtype=torch.int64, device=device())
    here[rank()] = mine
    return total(here).nonzero()[:, 0].tolist()


def alike(what: str, value: str) -> None:
    """Raises InputError, at every process, where one has another value than rank 0."""
    if size() == 1:
        return
    first = agree(value)
    if other := which(value != first):
        theirs, where = agree([value, machine()], other[0])
        raise InputError(
            f"the processes do not do the same: {what} is {first} at rank 0, and {theirs} at rank "
            f"{other[0]} on {where}; start all of them with the same command and versions"
        )


def same(tensor: Tensor) -> Tensor:
    """Rank 0's numbers: processes that decide by numbers of their own may decide differently, where
    one differs in its last bit.
    """
    if size() == 1:
        return tensor
    shared = tensor.to(device()).contiguous()
    dist.broadcast(shared, 0)
    return shared.to(tensor.device)


def wait() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()


class Gradients:
    """Sums the gradients of all processes: with a loss divided by the whole batch, they are those
    of one. Buckets of them are sent as soon as they are there, while the backward pass goes on: the
    last one, where a step has several `passes`.
    """

    def __init__(self, model: nn.Module, passes: int = 1):
        self.passes = passes
        self.sent: list[tuple[Any, Tensor, list[Tensor]]] = []
        self.buckets: list[list[nn.Parameter]] = []
        self.there: list[int] = []
        if size() == 1:
            return
        room = 0
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        for weight in weights[::-1]:  # the backward pass comes to the last first
            if room < weight.nbytes:
                self.buckets.append([])
                self.there.append(0)
                room = BUCKET
            room -= weight.nbytes
            self.buckets[-1].append(weight)
            weight.register_post_accumulate_grad_hook(
                lambda _, bucket=len(self.buckets) - 1: self._arrived(bucket)
            )

    def _arrived(self, bucket: int) -> None:
        """One more gradient of a bucket is there; buckets are sent in one order by all."""
        if bucket < len(self.sent):
            raise RunError(
                f"a step has more backward passes than the {self.passes} of its recipe (accumulate)"
            )
        self.there[bucket] += 1
        while (n := len(self.sent)) < len(self.buckets):
            if self.there[n] < self.passes * len(self.buckets[n]):
                break
            self._send()

    def _send(self) -> None:
        bucket = self.buckets[len(self.sent)]
        slopes = [weight.grad for weight in bucket if weight.grad is not None]
        flat = torch.cat([slope.flatten() for slope in slopes]) if slopes else torch.zeros(0)
        work = dist.all_reduce(flat, async_op=True) if slopes else None
        self.sent.append((work, flat, slopes))

    def sum(self) -> None:
        """After the backward pass: have the sums in their places."""
        while len(self.sent) < len(self.buckets):  # nothing of this step went through some weights
            self._send()
        for work, flat, slopes in self.sent:
            if work is not None:
                work.wait()
                parts = flat.split([slope.numel() for slope in slopes])
                for slope, part in zip(slopes, parts, strict=True):
                    slope.copy_(part.view_as(slope))
        self.sent, self.there = [], [0] * len(self.buckets)
