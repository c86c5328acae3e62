"""Files in zip and tar files, read where they are: nothing of them is unpacked beside the user's
files.
"""

from __future__ import annotations

import bz2
import functools
import gzip
import lzma
import stat
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from datablame.base import decode, environment, files, processes
from datablame.base.decode import LARGEST
from datablame.base.errors import InputError

RATIO = 200
"""How many times as large an archive, or a file in it, may be when it is unpacked."""
DAMAGED = (
    OSError,
    EOFError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    RuntimeError,
)
"""What the libraries raise for archives that are damaged, or locked by a password."""


def rows_of(values: Sequence[Any] | Mapping[int, Any]) -> Iterable[tuple[int, Any]]:
    """(row, value) of a list, or of what is known by row."""
    return values.items() if isinstance(values, Mapping) else enumerate(values)


@dataclass(frozen=True)
class Members:
    """Files in a zip or tar file, by name; `at` maps rows to names."""

    path: Path
    at: Sequence[str] | Mapping[int, str] = ()
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    @functools.cached_property
    def entries(self) -> dict[str, tuple[Any, int]]:
        """By the name of each of its files, where it begins (of zip its entry) and its size.

        Raises InputError for an archive that is damaged, or has anything but plain files in it.
        """
        try:
            zipped = self.path.name.lower().endswith(".zip")
            return dict(_zipped(self.zip, self.path) if zipped else _tarred(self.tar, self.path))
        except DAMAGED as error:
            raise InputError(f"{self.path} cannot be read: {error}") from None

    @functools.cached_property
    def zip(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    @functools.cached_property
    def tar(self) -> Path:
        """The tar file, or a copy of it in the cache that is not compressed."""
        return _inflated(self.path) if _compressed(self.path) else self.path

    def read(self, row: int) -> bytes:
        try:
            return self.content(self.at[row])
        except KeyError:
            raise OSError(f"no file is known of row {row}") from None

    def content(self, name: str) -> bytes:
        """Of a file. Raises OSError where there is none."""
        try:
            place, size = self.entries[name]
        except (KeyError, InputError) as error:
            raise OSError(f"there is no file {name} in {self.path}: {error}") from None
        if isinstance(place, int):
            with self.tar.open("rb") as file:
                file.seek(place)
                return file.read(size)
        try:
            with self.lock:
                return self.zip.read(place)
        except DAMAGED as error:
            raise OSError(f"{name} in {self.path}: {error}") from None

    def to_json(self) -> dict[str, Any]:
        return {"kind": "members", "path": str(self.path.absolute())}

    def watched(self) -> list[str]:
        return [str(self.path.absolute())]

    def also(self, other: Any) -> Any:
        if not isinstance(other, Members) or not isinstance(self.at, dict):
            return self  # all of them are there
        return replace(self, at={**dict(rows_of(other.at)), **self.at})


@dataclass(frozen=True)
class Shards:
    """Files in several tar files of a folder; `at` maps rows to `train-0000.tar/000123.jpg`."""

    home: Path
    at: Sequence[str] | Mapping[int, str] = ()
    opened: dict[str, Members] = field(default_factory=dict, compare=False, repr=False)

    def shard(self, name: str) -> Members:
        """One of the tar files."""
        if name not in self.opened:
            self.opened[name] = Members(self.home / name)
        return self.opened[name]

    def read(self, row: int) -> bytes:
        try:
            shard, _, name = self.at[row].partition("/")
        except KeyError:
            raise OSError(f"no file is known of row {row}") from None
        if not shard or shard.startswith("."):
            raise OSError(f"{shard} is no shard of {self.home}")
        return self.shard(shard).content(name)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "shards", "path": str(self.home.absolute())}

    def watched(self) -> list[str]:
        return [str((self.home / name).absolute()) for name in sorted(self.opened)]

    def also(self, other: Any) -> Any:
        if not isinstance(other, Shards) or not isinstance(self.at, dict):
            return self  # all of them are there
        return replace(self, at={**dict(rows_of(other.at)), **self.at})


def _zipped(packed: zipfile.ZipFile, path: Path) -> Iterator[tuple[str, tuple[Any, int]]]:
    for each in packed.infolist():
        if not each.is_dir():
            link = stat.S_ISLNK(each.external_attr >> 16)
            yield (
                _honest(each.filename, each.file_size, each.compress_size, not link, path),
                (
                    each,
                    each.file_size,
                ),
            )


def _tarred(tar: Path, path: Path) -> Iterator[tuple[str, tuple[Any, int]]]:
    with tarfile.open(tar, "r:") as packed:
        for each in packed:
            if not each.isdir():
                plain = each.isfile() and not each.issparse()
                name = _honest(each.name, each.size, each.size, plain, path)
                yield name.removeprefix("./"), (each.offset_data, each.size)
        end = packed.offset
    with tar.open("rb") as file:  # tarfile takes a damaged header for the end
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) not in (b"", bytes(tarfile.BLOCKSIZE)):
            raise tarfile.ReadError("unexpected end of data")


def _honest(name: str, size: int, held: int, plain: bool, path: Path) -> str:
    """The name of a member. Raises InputError for one that is no plain file of the archive."""
    if not plain:
        raise InputError(f"'{name}' in {path} is a link or a device, no file")
    if name.encode(errors="replace").decode() != name:
        raise InputError(
            f"{path} has a file whose name is not UTF-8: {name.encode(errors='replace')!r}"
        )
    odd = "\0" in name or "\\" in name or bool(PureWindowsPath(name).drive)
    if odd or name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise InputError(f"'{name}' in {path} leads out of its folder")
    if size > LARGEST or size > RATIO * held + (1 << 20):
        raise InputError(f"'{name}' in {path} would unpack to {size:,} bytes, from {held:,}")
    return name


def _compressed(path: Path) -> bool:
    return not path.name.lower().endswith((".tar", ".zip"))


def unpack(paths: Sequence[Path]) -> None:
    """Bring compressed tar files into the cache without their compression: of several processes
    each does some.
    """
    packed = [path for path in paths if _compressed(path)]
    for path in packed[processes.rank() :: processes.size()]:
        _inflated(path)
    processes.wait()


def _inflated(path: Path) -> Path:
    """A compressed tar file without its compression, kept in the cache.

    Raises InputError for one that is more than RATIO times as large then.
    """
    about = path.stat()
    mark = decode.key(str(path.absolute()), about.st_size, about.st_mtime_ns)
    kept = environment.cache() / "archives" / f"{mark}.tar"
    if kept.is_file():
        return kept
    kinds = {".bz2": bz2.open, ".xz": lzma.open}
    most = RATIO * about.st_size + (1 << 20)

    def blocks() -> Iterator[bytes]:
        size = 0
        try:
            with kinds.get(path.suffix.lower(), gzip.open)(path) as source:
                while block := source.read(1 << 22):
                    size += len(block)
                    if size > most:
                        raise InputError(f"{path} would unpack to more than {RATIO} times its size")
                    yield block
        except DAMAGED as error:
            raise InputError(f"{path} cannot be read: {error}") from None

    return files.write_alone(kept, blocks())
