"""Ranks and devices: the only file that knows there may be several processes.

Every process runs the same program. A batch is split over them, what each saw is summed, and rank 0
writes.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn.functional as across
from torch import Tensor, nn

from datablame.base.errors import InputError
from datablame.base.shapes import Int

T = TypeVar("T")

LAUNCHER = "the launcher of this process has ended; run the same command to resume"
PEER = "another of the processes has ended; run the same command to resume"


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
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(launcher: int) -> None:
    """End this process once the program that started it has ended."""
    while os.getppid() == launcher:
        time.sleep(2)
    print(f"datablame: {LAUNCHER}", file=sys.stderr, flush=True)
    os._exit(1)


def lost(error: BaseException) -> bool:
    """Whether an error means that another process has ended."""
    words = ("gloo", "NCCL", "Connection closed", "Connection reset")
    return any(word in str(error) for word in words)


def stop() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """Of this process, from 0; 0 where it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def device() -> torch.device:
    """The first CUDA device of this process, else Apple's, else the CPU.

    `DATABLAME_DEVICE` overrides.
    """
    if asked := os.environ.get("DATABLAME_DEVICE"):
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def free() -> int:
    """Bytes that this process may still take on its device."""
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        pages, page = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
        with open(
            "/proc/meminfo"
        ) as file:  # free pages leave out what the page cache would give back
            known = dict(line.split(":", 1) for line in file)
        return (
            int(known["MemAvailable"].split()[0]) * 1024 // size()
            if "MemAvailable" in known
            else pages * page
        )
    except (OSError, ValueError):  # not Linux
        return 4 << 30


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


def together(part: Tensor, count: int) -> Tensor:
    """The parts of `count` rows that the processes hold, as `shard` made them; gradients find their
    way back to each.
    """
    if size() == 1:
        return part
    mine = shard(torch.arange(count, device=part.device))
    whole = part.new_zeros(count, *part.shape[1:])
    return across.all_reduce(whole.index_copy(0, mine, part))


def agree(value: T) -> T:
    """What rank 0 says: text, numbers, and lists of them, sent as JSON."""
    if size() == 1:
        return value
    text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8, device=device())
    length = torch.tensor([len(text)], device=device())
    dist.broadcast(length, src=0)
    if rank() != 0:
        text = text.new_empty(int(length))
    dist.broadcast(text, src=0)
    return json.loads(bytes(text.tolist()))


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


def sum_gradients(model: nn.Module) -> None:
    """Add up the gradients of all processes: with a loss divided by the whole batch, one process's
    gradient.
    """
    if size() > 1:
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = total(torch.cat([g.flatten() for g in gradients]))
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))


def unite(model: nn.Module) -> nn.Module:
    """Let BatchNorm see the whole batch of all processes, so that two ranks train what one
    would.
    """
    if size() == 1:
        return model
    for name, child in model.named_children():
        if isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)):
            united = UnitedBatchNorm(child.num_features, child.eps, child.momentum, child.affine)
            united.load_state_dict(child.state_dict())
            setattr(model, name, united.to(next(iter(child.state_dict().values())).device))
        else:
            unite(child)
    return model


class UnitedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the batch of all processes. torch's SyncBatchNorm refuses the CPU; this one
    runs anywhere.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"expected [B,C] or [B,C,H,W], got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        x = input.float()
        count = x.new_full((1,), x.numel() / x.shape[1])
        n, s = across.all_reduce(torch.cat([count, x.sum(axes)])).split([1, x.shape[1]])
        mean = s / n
        shape = [1, -1] + [1] * (input.dim() - 2)
        centred = x - mean.view(shape)
        variance = across.all_reduce(centred.square().sum(axes)) / n
        with torch.no_grad():
            rate = self.momentum or 0.0
            for kept, seen in (
                (self.running_mean, mean),
                (self.running_var, variance * n / (n - 1)),
            ):
                if kept is not None:
                    kept.lerp_(seen, rate)
        y = centred * (variance + self.eps).rsqrt().view(shape)
        return (y * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)


def repeatable() -> None:
    """The same kernels each time, so that a resumed run equals an uninterrupted one on a GPU
    too; the fastest ones with `DATABLAME_REPEATABLE=no`. Raises InputError for another word.
    """
    same = said_yes("DATABLAME_REPEATABLE")
    torch.backends.cudnn.deterministic = same
    torch.backends.cudnn.benchmark = not same


def said_yes(variable: str) -> bool:
    """What an environment variable says, yes if it is not there. Raises InputError for another word
    than yes and no.
    """
    asked = os.environ.get(variable) or "yes"
    if asked not in ("yes", "no"):
        raise InputError(f"{variable} is yes or no; it is '{asked}'")
    return asked == "yes"


KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Precisions by name."""


def has_bf16() -> bool:
    """Whether the device has instructions for bf16: GPUs, and CPUs with AVX-512 or AMX for it."""
    if device().type != "cpu":
        return device().type == "cuda"
    known = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))


def sent(tensor: Tensor) -> Tensor:
    """A tensor on the device; to a GPU from pinned memory, so that nobody waits for it."""
    if device().type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device(), non_blocking=True)


def aside(work: Callable[[], T]) -> T:
    """What some work on a GPU gives, done on a stream of its own, as it must be before it is
    recorded.
    """
    stream, main = _beside(), torch.cuda.current_stream()
    stream.wait_stream(main)
    with torch.cuda.stream(stream):
        made = work()
    main.wait_stream(stream)
    return made


def recorded(work: Callable[[], T], pool: Any) -> Callable[[], T]:
    """Work on a GPU that is run again by each call, as a CUDA graph: on the same memory, what it
    gives too; what lies between is in a `pool`. Raises RuntimeError where it cannot be recorded.
    """
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool, _beside(), "thread_local"):  # other threads may go on
            made = work()
    finally:
        torch.cuda.set_stream(stream)

    def replay() -> T:
        graph.replay()
        return made

    return replay


@functools.cache
def _beside() -> torch.cuda.Stream:
    """A second stream of the device."""
    return torch.cuda.Stream()


def pool() -> Any:
    """Memory that several recordings share, of which one is run at a time."""
    return torch.cuda.graph_pool_handle() if records() else None


def records() -> bool:
    """Whether this process's current device can record work and replay it."""
    here = device()
    return here.type == "cuda" and here.index in (None, torch.cuda.current_device())


def synchronise() -> None:
    """Until the device has done what it was asked for."""
    if device().type == "cuda":
        torch.cuda.synchronize(device())
    elif device().type == "mps":
        torch.mps.synchronize()


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def autocast(precision: str) -> Iterator[None]:
    """`fp32`, `bf16` or `fp16` inside the block."""
    with torch.autocast(device().type, dtype=KINDS[precision], enabled=precision != "fp32"):
        yield
