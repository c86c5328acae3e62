"""Folders: held for writing by one program at a time, and seen by all machines."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from datablame.base import files, processes
from datablame.base.errors import InputError

HELD: set[Path] = set()
"""Folders that this process holds for writing."""
LOCK, HOLDER = ".lock", ".holder"
"""In a folder: what is locked, and the number of the process that has locked it."""


@contextlib.contextmanager
def alone(folder: Path, patient: bool = False) -> Iterator[None]:
    """Hold a folder for writing; a second program gets an InputError, or waits if it is
    patient.
    """
    if folder.absolute() in HELD:
        yield
        return
    with _held(folder, patient) if processes.rank() == 0 else contextlib.nullcontext():
        _seen_by_all(folder)
        HELD.add(folder.absolute())
        try:
            yield
        finally:
            HELD.discard(folder.absolute())


@contextlib.contextmanager
def locked(folder: Path, patient: bool) -> Iterator[None]:
    """A folder is locked against other programs, and against other threads of this one. Raises
    BlockingIOError where one has it, or waits if it is patient.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=-1 if patient else 0)
    files.make_folder(folder)
    try:
        lock.acquire()
    except Timeout:
        raise BlockingIOError from None
    except OSError as error:
        raise files.failed(folder, error) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _held(folder: Path, patient: bool) -> Iterator[None]:
    """`alone`, of rank 0."""
    holder = folder / HOLDER
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(locked(folder, patient))
        except BlockingIOError:
            who = "unknown"
            with contextlib.suppress(OSError):
                who = holder.read_text(encoding="utf-8")
            raise InputError(
                f"{folder} is being written by another datablame (process {who}); wait for it, or "
                "use another --out"
            ) from None
        files.write_alone(holder, [str(os.getpid()).encode()])
        for part in folder.rglob(".*.part"):
            if files.left(part):
                files.drop(part)
        yield


def _seen_by_all(folder: Path) -> None:
    """Several machines must share a folder: rank 0 writes a mark into it, and the others look for
    it for files.SEEN seconds, as such folders may lag.

    Raises InputError where one does not see it.
    """
    if processes.machines() == 1:
        return
    path = folder / f".seen-{processes.agree(os.urandom(8).hex())}.part"
    if processes.rank() == 0:
        files.write_alone(path, [])
    processes.wait()
    blind = processes.which(not files.visible(path))
    if processes.rank() == 0:
        files.remove_alone(path)
    if blind:
        where = processes.agree(processes.machine(), blind[0])
        raise InputError(
            f"rank {blind[0]} on {where} does not see {folder}, which rank 0 on "
            f"{processes.agree(processes.machine())} has written to, after {files.SEEN:.0f} "
            "seconds: several machines need folders that all of them share; name one with --out, "
            "and one for DATABLAME_CACHE"
        )
