"""Arrays and tensors on disk: written whole, kept where they are sound, filled block by block."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from datablame.base import files, processes
from datablame.base.readers import read_array


def write(path: Path, array: np.ndarray) -> Path:
    """A `.npy` file, without pickle."""

    def save(part: Path) -> None:
        with open(part, "wb") as file:
            np.save(file, array, allow_pickle=False)

    return files.write(path, save)


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    """Several arrays by name as one `.npz`."""

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # its stub takes the names for flags

    return files.write(path, save)


def write_tensors(
    path: Path, tensors: dict[str, Any], metadata: dict[str, str] | None = None
) -> Path:
    """A safetensors file; shared or strided tensors are laid out plainly first."""
    from safetensors.torch import save

    def plainly(part: Path) -> None:
        laid = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        part.write_bytes(save(laid, metadata))

    return files.write(path, plainly)


def mapped(path: Path, shape: tuple[int, ...], kind: str) -> np.memmap:
    """A `.npy` memory map for writing in place, made if it is not there.

    Only rank 0's writes reach the disk.
    """
    if processes.rank() != 0:
        return np.zeros(shape, kind)  # type: ignore[return-value]  # never written: a stand-in of the same shape
    with contextlib.suppress(
        ValueError, FileNotFoundError
    ):  # not there, or cut off before its header was whole
        array = np.lib.format.open_memmap(path, mode="r+")
        if array.shape == shape and array.dtype == np.dtype(kind):
            return array
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=kind, shape=shape)
        with open(
            path, "r+b"
        ) as file:  # claim the space now: a full disk would end the process at a later write
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise files.failed(path, error) from None
    return array


def keep(
    path: Path,
    make: Callable[[], np.ndarray],
    shape: Sequence[int | None] | None = None,
    kind: str | None = None,
    finite: bool = False,
) -> np.ndarray:
    """The array at `path`; made, written and returned if it is not there, or is damaged: of another
    shape or kind than these, or, where they must be `finite`, with numbers that are not.

    This is all that resuming needs.
    """

    def read(path: Path) -> np.ndarray:
        return read_array(path, shape, kind, finite)

    if not files.sound(path, read):
        write(path, make())
    return read(path)


def fill(path: Path, shape: tuple[int, ...], kind: str, blocks: Iterable[np.ndarray]) -> np.ndarray:
    """`keep` for an array that comes in blocks of rows and need not fit in memory."""
    if not files.sound(path, lambda path: read_array(path, shape, kind)):

        def save(part: Path) -> None:
            array, row = mapped(part, shape, kind), 0
            for block in blocks:
                array[row : row + len(block)] = block
                row += len(block)
            array.flush()

        if processes.rank() == 0:
            files.write(path, save)
        else:
            for _ in blocks:  # the blocks are made together
                pass
            files.awaited(path)
    return read_array(path, shape, kind)


def digest(*arrays: Any) -> str:
    """Eight hexadecimal digits of the content of arrays."""
    import hashlib

    total = hashlib.blake2b(digest_size=4)
    for array in arrays:
        total.update(b"none" if array is None else np.ascontiguousarray(array).data)
    return total.hexdigest()
