"""Devices: where tensors lie, in which precision, by how many threads, what a GPU can record."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from datablame.base.errors import InputError
from datablame.base.shapes import Float

T = TypeVar("T")


def device() -> torch.device:
    """The first CUDA device of this process, else Apple's, else the CPU.

    `DATABLAME_DEVICE` overrides.
    """
    if asked := os.environ.get("DATABLAME_DEVICE"):
        return torch.device(asked)
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def beside() -> int:
    """How many processes share this machine, with this one."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def free() -> int:
    """Bytes that this process may still take on its device."""
    if device().type == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            known = dict(line.split(":", 1) for line in file)
        if "MemAvailable" in known:  # free pages leave out what the page cache would give back
            return int(known["MemAvailable"].split()[0]) * 1024 // beside()
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // beside()
    except (OSError, ValueError, AttributeError):  # not Linux
        return 4 << 30


def installed() -> int | None:
    """Bytes of memory that this machine has; None where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):  # Windows
        return None


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


LACKING = ("mps",)
"""Devices without double precision, eigenvectors and Cholesky factors."""


def eigenvectors(square: Float[Tensor, "*n d d"]) -> tuple[Tensor, Tensor]:
    """(ascending eigenvalues, eigenvectors) of symmetric matrices; by the CPU for a device that
    cannot find them.
    """
    return capable(torch.linalg.eigh, square)


def capable(work: Callable[[Tensor], Any], tensor: Tensor) -> Any:
    """What some work makes of a tensor, a tensor or several; on the CPU for a device that lacks
    what it needs.
    """
    if tensor.device.type not in LACKING:
        return work(tensor)
    made = work(tensor.cpu())
    if isinstance(made, Tensor):
        return made.to(tensor.device)
    return tuple(each.to(tensor.device) for each in made)


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
