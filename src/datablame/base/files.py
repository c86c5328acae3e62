"""Files: the only place that opens one for writing. Everything is written to a temporary name and
renamed.

Under several processes rank 0 writes and the others wait, so that afterwards all see the same
folder.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import shutil
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from datablame.base import processes, progress
from datablame.base.errors import InputError, RunError
from datablame.base.readers import MANIFEST, Damaged, forget, manifest

T = TypeVar("T")

MARK = "datablame"
"""Key among the metadata of what is written here."""
PARTS = ",parts-"
"""In the name of a folder of blocks that several programs write at once."""
HOUR = 3600.0
SEEN = 30.0
"""Seconds in which a file that one machine writes must be seen by the others."""


def _part(path: Path, more: str = "") -> Path:
    """Where a file is until it is whole: beside its place, by a name that says whose it is."""
    return path.with_name(f".{path.name}.{more}{_HERE}-{os.getpid()}.part")


_HERE = f"{zlib.crc32(processes.machine().encode()):08x}"
"""This machine, in the names of files that are not whole."""


def left(part: Path) -> bool:
    """Whether a file that is not whole was left by a program that was killed: one of this machine
    that is no more, or one that nobody has written to for an hour.
    """
    where, _, process = part.name.split(".")[-2].partition("-")
    if where == _HERE and process.isdigit() and sys.platform != "win32":  # which would end it
        return int(process) == os.getpid() or not _runs(int(process))
    with contextlib.suppress(OSError):
        return time.time() - part.stat().st_mtime > HOUR
    return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return error.errno == errno.EPERM  # somebody else's
    return True


def write(path: Path, save: Callable[[Path], object]) -> Path:
    """Let `save` fill a temporary file, or make a folder of that name, next to `path`, then rename
    it into place.
    """
    if processes.rank() == 0:
        part = _part(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save(part)
            for file in [*part.rglob("*"), part] if part.is_dir() else [part]:
                _synced(file)
            listed(path, there=False)
            os.replace(part, path)
            _synced(path.parent)
            listed(path)
        except OSError as error:
            raise failed(path, error) from None
        finally:
            drop(part)
    awaited(path)
    return path


@contextlib.contextmanager
def several() -> Iterator[None]:
    """Files that are written inside are waited for once, at the end; until then the other processes
    must not read them.
    """
    if _Waiting.files is not None:
        yield
        return
    _Waiting.files = waiting = []
    try:
        yield
    finally:
        _Waiting.files = None
    if waiting:
        awaited(waiting[-1])


class _Waiting:
    """The files that nobody has waited for yet, inside `several`."""

    files: list[Path] | None = None


def awaited(path: Path) -> None:
    """Until rank 0 has written a file, and this process sees it."""
    if _Waiting.files is not None:
        _Waiting.files.append(path)
        return
    processes.wait()
    if not visible(path):
        raise InputError(
            f"{processes.machine()} does not see {path}, which rank 0 has written, after "
            f"{SEEN:.0f} seconds; do all machines share this folder?"
        )


def visible(path: Path) -> bool:
    """Whether this process sees a file that another machine may have written: the folders that they
    share may lag.
    """
    until = time.monotonic() + SEEN
    while processes.machines() > 1 and not path.exists():
        if time.monotonic() > until:
            return False
        with contextlib.suppress(OSError):
            os.listdir(path.parent)  # some file systems look again only then
        time.sleep(0.1)
    return True


def write_alone(path: Path, blocks: Iterable[bytes]) -> Path:
    """A file, block after block, by one thread of one process: no other is waited for, and several
    that write the same each do it whole.
    """
    part = _part(path, f"{threading.get_ident()}.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for block in blocks:
                file.write(block)
        os.replace(part, path)
    except OSError as error:
        raise failed(path, error) from None
    finally:
        drop(part)
    return path


def write_resumed(
    path: Path, mark: str, blocks: Callable[[int], Iterable[bytes]], size: int
) -> Path:
    """A file of `size` bytes (negative where nobody knows) whose `blocks`, from a byte on, come
    from elsewhere and may break off: what came is kept, and gone on from. `mark` tells its versions
    apart; without one it is begun anew each time. No second program may write it meanwhile.

    Raises OSError where it ends early or does not end.
    """
    part = resumed(path, mark)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("ab" if mark else "wb")
    except OSError as error:
        raise failed(path, error) from None
    with file:
        try:
            for block in blocks(file.tell()):
                file.write(block)
        except ValueError:  # a server that cannot begin in the middle
            file.truncate(0)
            for block in blocks(0):
                file.write(block)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise failed(path, error) from None
            raise
        got = file.tell()
    if size >= 0 and got != size:
        drop(part) if got > size else None
        raise OSError(f"{got:,} of {size:,} bytes came")
    os.replace(part, path)
    return path


def resumed(path: Path, mark: str) -> Path:
    """Where what came of a version of a file is kept."""
    return path.with_name(f".{path.name}.{mark}.fetch")


def listed(path: Path, there: bool = True) -> None:
    """Note a file's size and digest in the manifest of the run that it lies in, for readers and for
    `datablame doctor RUN`; or forget them before it is replaced, so that a program killed between
    leaves no false ones. What a person may edit, and what every command writes, is left out.
    """
    if PARTS in path.parent.name:  # several programs write there at once
        return
    if path.suffix not in (".npy", ".npz", ".safetensors", ".parquet", ".json"):
        return
    home = next((f for f in list(path.absolute().parents)[:4] if (f / "run.json").exists()), None)
    if home is None or path.name in (MANIFEST, "run.json", "progress.safetensors"):
        return
    name, known = str(path.absolute().relative_to(home)), manifest(home)
    if known.pop(name, None) is None and not there:
        return
    if there:
        known[name] = (path.stat().st_size, digest_of(path))
        known = {name: facts for name, facts in known.items() if (home / name).exists()}
    part = _part(home / MANIFEST)
    try:
        text = json.dumps(dict(sorted(known.items())), indent=2) + "\n"
        part.write_text(text, encoding="utf-8")
        os.replace(part, home / MANIFEST)
        forget(home)
    finally:
        drop(part)


def list_run(run: Path) -> None:
    """Note all files of a run that were mapped and filled rather than written at once (its trace),
    and what was there before the run was.
    """
    if processes.rank() == 0:
        for folder in ("data", "trace", "."):
            for path in sorted((run / folder).glob("*")):
                if path.is_file() and not path.name.startswith("."):
                    listed(path)
    processes.wait()


def refuse_foreign(path: Path, source: Path | str | None = None) -> None:
    """The rule for every path that a user names to be written. What a killed program left of it is
    deleted.

    Raises InputError for a file that was not written here or a folder with something in it, for a
    path inside a run's own folder, and for one inside the folder `source` that images come from.
    """
    whole = path.absolute().resolve()
    for folder in whole.parents:
        if (folder / "run.json").is_file():
            raise InputError(f"{path} lies in the run {folder}; name a path outside of it")
    refuse_inside(path, source)
    if path.is_dir():
        if any(path.iterdir()):
            raise InputError(f"{path} is there and not empty; name a new folder")
    elif (path.exists() or path.is_symlink()) and not _ours(path):
        raise InputError(
            f"{path} is there and was not written by datablame, or cannot be told from a file of "
            "yours; name a new file, or move it away"
        )
    if processes.rank() == 0:
        for part in whole.parent.glob(f".{glob.escape(path.name)}.*-*.part"):
            if left(part):
                drop(part)


def refuse_inside(out: Path | str, source: object) -> None:
    """Raises InputError for an output inside the folder that images come from: its pictures would
    be images of the set.
    """
    if not isinstance(source, (str, Path)) or not Path(source).is_dir():
        return
    whole = Path(source).resolve()
    if Path(out).absolute().resolve().is_relative_to(whole):
        raise InputError(
            f"{out} lies in the source folder {source}, whose images it would join; name a folder "
            "outside of it with --out"
        )


def _ours(path: Path) -> bool:
    """Was this file written here? Parquet and safetensors files say so; of others nobody knows."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        with contextlib.suppress(OSError, pa.ArrowException):
            return MARK.encode() in (parquet.read_schema(path).metadata or {})
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError, safe_open

        with contextlib.suppress(OSError, SafetensorError), safe_open(path, "numpy") as file:
            return MARK in (file.metadata() or {})
    return False


def _synced(path: Path) -> None:
    """Wait until a file or folder is on the disk: after a power cut, a name that was written holds
    what was written.
    """
    with contextlib.suppress(OSError):  # some file systems refuse it for folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def copy(old: Path, new: Path) -> Path:
    """A file, or a folder with all that is in it."""

    def save(part: Path) -> None:
        shutil.copytree(old, part) if old.is_dir() else shutil.copyfile(old, part)

    return write(new, save)


def drop(part: Path) -> None:
    """Delete a partially written file or folder, if any."""
    if part.is_dir():
        shutil.rmtree(part)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            part.unlink()


def failed(path: Path, error: OSError) -> Exception:
    """A sentence for a file that could not be written."""
    again = "and run the same command again to resume"
    if error.errno == errno.ENOSPC or (error.errno is None and "requested and" in str(error)):
        return RunError(f"the disk is full: could not write {path}; free some space {again}")
    if error.errno == errno.EDQUOT:
        return RunError(f"your quota is full: could not write {path}; free some space {again}")
    if error.errno == errno.EFBIG:
        return RunError(
            f"{path} would be larger than a file may be here (ulimit -f): raise the limit {again}"
        )
    if error.errno == errno.ENAMETOOLONG:
        return InputError(f"the name of {path.name[:40]}... is too long for a file; shorten it")
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR, errno.EEXIST):
        return InputError(f"cannot write {path}: {error.strerror}; name another folder with --out")
    return error


def write_bytes(path: Path, data: bytes) -> Path:
    """A file of these bytes."""
    return write(path, lambda part: part.write_bytes(data))


def write_text(path: Path, text: str) -> Path:
    """A UTF-8 text file."""
    return write(path, lambda part: part.write_bytes(text.encode()))


def write_json(path: Path, value: object) -> Path:
    """A JSON file, indented by two."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return write(path, lambda part: part.write_bytes(text.encode()))


def write_folder(path: Path, files: Iterable[tuple[str, bytes | Callable[[Path], object]]]) -> Path:
    """A new folder with these files, (name in it, content, or what writes it to a path); a name
    that ends in / is a folder.
    """

    def save(part: Path) -> None:
        for name, content in files:
            if name.endswith("/"):
                (part / name).mkdir(parents=True, exist_ok=True)
                continue
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                (part / name).write_bytes(content)
            else:
                content(part / name)

    return write(path, save)


def make_folder(path: Path) -> None:
    """A folder, if it is not there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise failed(path, error) from None


def renamed(old: Path, new: Path) -> Path:
    """A file of ours under another name."""
    processes.wait()  # another machine may still look for it
    if processes.rank() == 0:
        os.replace(old, new)
    awaited(new)
    return new


def nearest(path: Path) -> Path:
    """The path itself, or its first parent that exists."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def human(count: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"


def sound(path: Path, read: Callable[[Path], object]) -> bool:
    """Whether a file that can be made again is there and can be read; a damaged one is deleted,
    with a message.
    """
    there = path.exists()
    if there and processes.rank() == 0:
        try:
            read(path)
        except Damaged as error:
            progress.say(f"{str(error).partition(';')[0]}: it is made again")
            path.unlink()
            there = False
    return processes.agree(there)


def digest_of(path: Path) -> str:
    """Eight hexadecimal digits of the content of a file."""
    import hashlib

    total = hashlib.blake2b(digest_size=4)
    with path.open("rb") as file:
        while part := file.read(1 << 22):
            total.update(part)
    return total.hexdigest()


def remove_alone(path: Path) -> None:
    """Delete a file of ours by this process, for which no other waits."""
    path.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Delete a folder of ours, if it is there, though somebody may still write into it."""
    if processes.rank() == 0 and path.exists():
        os.replace(path, gone := _part(path))
        shutil.rmtree(gone, ignore_errors=True)
    processes.wait()


def remove(path: Path) -> None:
    """Delete a file of ours, if it is there."""
    if processes.rank() == 0:
        path.unlink(missing_ok=True)
    processes.wait()
