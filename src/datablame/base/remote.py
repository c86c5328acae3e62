"""Sets that lie elsewhere (s3://, gs://, hf://, https://): fetched once into the cache, under the
same names, and read there.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote

from datablame.base import decode, environment, files, folders, processes, progress
from datablame.base.errors import InputError

T = TypeVar("T")
SCHEMES = ("s3", "gs", "gcs", "hf", "http", "https", "az", "abfs")
BLOCK = 1 << 22
TRIES, PAUSE = 5, 0.5
"""How often a file is asked for, and seconds before the second time; each wait is twice as long."""
THREADS = 32
ANSWER = 60
"""Seconds without a byte after which a request is given up."""
MISSING = ("NO_SUCH_BUCKET", "NO_SUCH_KEY", "RepositoryNotFound", "EntryNotFound")
"""What they say where there is nothing, and raise no FileNotFoundError."""
FRESH = 60.0
"""Seconds for which what is kept counts as what is there: a command reads a set several times."""
SEEN: dict[str, float] = {}
"""When an address was last looked at."""
STORES: dict[tuple[str, str], Any] = {}
"""Buckets that were opened."""
DENIED = (
    "ACCESS_DENIED",
    "INVALID_ACCESS_KEY",
    "SIGNATURE_DOES_NOT_MATCH",
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "GatedRepo",
    "access token",
)
"""What the libraries say where nobody may read."""


@dataclass(frozen=True)
class Thing:
    """A file elsewhere: its path in its file system, bytes (-1 where nobody knows), and version
    (nanoseconds of its last change, or a number that changes with its content; 0 where nothing is
    known).
    """

    path: str
    size: int
    version: int


def known(where: object) -> bool:
    """Whether it is an address rather than a path."""
    return isinstance(where, str) and "://" in where[:12]


def place(where: str) -> Path:
    """Where it is kept in the cache. Raises InputError for an address that is not understood, or
    that leads out of its folder.
    """
    scheme, _, rest = where.partition("://")
    if scheme not in SCHEMES:
        raise InputError(f"{where} is no address that is read here; {', '.join(SCHEMES)}://... are")
    host, _, path = rest.partition("/")
    if ":" in host.rpartition("@")[0]:
        raise InputError(
            f"the address at {host.rpartition('@')[2]} holds a password, which would be kept with "
            "the run; give it by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"
        )
    signed = ""
    if scheme in ("http", "https"):
        path, _, signed = path.partition("#")[0].partition("?")
        path = unquote(path)
    below = PurePosixPath(path.strip("/") or ".")
    odd = any(sign in path for sign in ("\0", "\\")) or (signed and not below.name)
    if odd or ".." in below.parts or not host or host.startswith("."):
        raise InputError(f"{shown(where)} leads out of its folder, or names none")
    if signed:
        below = below.parent / decode.key(signed) / below.name
    return environment.cache() / "remote" / scheme / host / below


def shown(where: str) -> str:
    """An address as it is told and kept: without a signature."""
    return where.partition("?")[0] if where.startswith("http") else where


def local(where: str | Path) -> Path:
    """A path as it is; of an address the copy in the cache, of a file or of a folder with all that
    lies in it. What has not changed since is not fetched again.

    Raises InputError where there is nothing, where it may not be read, and where the network fails
    TRIES times: what came before is kept.
    """
    if not known(where):
        return Path(where)
    where = str(where)
    home = place(where)
    whole = environment.cache() / "fetched" / decode.key(str(home))
    if environment.offline():
        if home.is_file() or (home.exists() and whole.exists()):
            return home
        raise InputError(
            f"{shown(where)} was not fetched before, and --offline (HF_HUB_OFFLINE) forbids the "
            "network"
        )
    if processes.agree(time.monotonic() - SEEN.get(where, -FRESH) > FRESH):
        top = environment.cache() / "remote"
        bucket = top.joinpath(*home.relative_to(top).parts[:2])
        first = processes.rank() == 0  # a second program waits for this one
        with (
            progress.stage("fetch"),
            folders.locked(bucket, True) if first else contextlib.nullcontext(),
        ):
            missing = processes.agree(_missing(where, home) if first else [])

            def bring(each: Sequence[Any]) -> None:
                _bring(_system(where)[0], Thing(*each[1:]), Path(each[0]), where)

            _shared(bring, missing, "files")
            processes.wait()
        if processes.rank() == 0:
            files.write_alone(whole, [])
        SEEN[where] = time.monotonic()
    processes.wait()
    return home


def images(root: str | None, cells: Sequence[str | None]) -> tuple[Path, list[str | None]]:
    """(a folder in the cache, paths that start there) of the images that a table names, by
    addresses or by paths that start at the address `root`. They are fetched once; those that are
    not there are left out.
    """
    listed = root is None or any(map(known, cells))
    home = environment.cache() / "remote" if listed else place(str(root))
    asked = [_joined(root, cell) for cell in cells]
    places = [None if each is None else place(each) for each in asked]
    first = processes.rank() == 0  # the others need not look
    lost = [
        (each, str(there))
        for each, there in zip(asked, places, strict=True)
        if first and each is not None and there is not None and not there.is_file()
    ]
    lost = processes.agree(lost)
    if lost and environment.offline():
        raise InputError(
            f"{len(lost):,} images were not fetched before, such as {shown(lost[0][0])}, and "
            "--offline (HF_HUB_OFFLINE) forbids the network"
        )

    def bring(pair: Sequence[str]) -> None:
        fs, path = _system(pair[0])
        try:
            content = _patiently(pair[0], lambda: fs.cat_file(path))
        except FileNotFoundError:
            return  # said by who decodes it
        files.write_alone(Path(pair[1]), [content])

    _shared(bring, lost, "images")
    processes.wait()
    return home, [None if each is None else str(each.relative_to(home)) for each in places]


def _joined(root: str | None, cell: str | None) -> str | None:
    """The address of an image. Raises InputError for a path that starts nowhere."""
    if not cell or known(cell):
        return cell or None
    if root is None:
        raise InputError(f"some images are addresses, and {cell} is none; say --root ADDRESS")
    return f"{root.rstrip('/')}/{cell}"


def _missing(where: str, home: Path) -> list[list[Any]]:
    """Of each file that is not kept as it is there: its place, its path, size and version. What is
    no longer there is deleted.
    """
    fs, path = _system(where)
    try:
        things = _patiently(where, lambda: _listed(fs, path))
    except FileNotFoundError:
        raise InputError(f"there is nothing at {shown(where)}") from None
    lone = len(things) == 1 and things[0].path.rstrip("/") == path.rstrip("/")
    top = path.rstrip("/") + "/"
    homes = {
        thing.path: home if lone else _below(home, thing.path.removeprefix(top), where)
        for thing in things
    }
    missing = [thing for thing in things if not _same(homes[thing.path], thing)]
    gone = [] if lone else _strange(home, set(homes.values()))
    if not missing and not gone:
        return []
    total = sum(max(thing.size, 0) - _come(homes[thing.path], thing) for thing in missing)
    free = shutil.disk_usage(files.nearest(home)).free
    if total > free:
        raise InputError(
            f"{shown(where)} holds {files.human(total)}, and {files.human(free)} are free for "
            f"{environment.cache()}; name another place with DATABLAME_CACHE"
        )
    count = f"{len(missing):,} file{'s' if len(missing) > 1 else ''}"
    progress.say(f"{shown(where)}: {count} to fetch ({files.human(total)})")
    for old in gone:
        files.remove_alone(old)
    return [[str(homes[each.path]), each.path, each.size, each.version] for each in missing]


def _shared(do: Callable[[Any], None], things: Sequence[Any], unit: str) -> None:
    """Done for all by many threads, of which each process has some; the first error ends it."""
    mine = things[processes.rank() :: processes.size()]
    with ThreadPoolExecutor(THREADS) as threads:
        waiting = [threads.submit(do, thing) for thing in mine]
        try:
            for done in progress.track(waiting, len(waiting), "fetching", unit):
                done.result()
        except BaseException:
            threads.shutdown(cancel_futures=True)
            raise


def _below(home: Path, name: str, where: str) -> Path:
    """A file's place under the folder. Raises InputError for a name that leads out of it."""
    if ".." in name.split("/") or name.startswith("/") or "\0" in name or "\\" in name:
        raise InputError(f"'{name}' in {shown(where)} leads out of its folder")
    return home / name


def _strange(home: Path, wanted: set[Path]) -> list[Path]:
    """Files that were fetched once, and are no longer there."""
    return [p for p in home.rglob("*") if p.is_file() and p not in wanted and p.name[0] != "."]


def _come(home: Path, thing: Thing) -> int:
    """Bytes of it that came before."""
    part = files.resumed(home, _mark(thing))
    return part.stat().st_size if part.exists() else 0


def _mark(thing: Thing) -> str:
    """What tells a version of a file from another; nothing where nobody can."""
    return f"{thing.size}-{thing.version}" if thing.version else ""


def _same(kept: Path, thing: Thing) -> bool:
    """Whether a kept file is that version; where nobody knows, it is fetched again."""
    try:
        about = kept.stat()
    except OSError:
        return False
    return thing.size in (-1, about.st_size) and thing.version == about.st_mtime_ns


def _bring(fs: Any, thing: Thing, home: Path, where: str) -> None:
    """Fetch a file, going on from where an earlier try ended."""

    def blocks(start: int) -> Iterator[bytes]:
        options = {} if start else {"block_size": 0}  # one answer, as long as the file is
        with fs.open(thing.path, "rb", **options) as file:
            if start:
                file.seek(start)
            while block := file.read(BLOCK):
                yield block

    def whole() -> None:
        files.write_resumed(home, _mark(thing), blocks, thing.size)

    try:
        _patiently(where, whole)
    except FileNotFoundError:
        raise InputError(
            f"{shown(thing.path)} went away while {shown(where)} was read; run it again"
        ) from None
    if thing.version:
        os.utime(home, ns=(thing.version, thing.version))


def _patiently(where: str, do: Callable[[], T]) -> T:
    """Try TRIES times. Raises InputError where it may not be read, or all fail; FileNotFoundError
    is passed on.
    """
    for turn in range(TRIES):
        try:
            return do()
        except InputError:
            raise
        except Exception as error:  # the libraries raise many kinds, some behind another
            cause = error.__cause__ or error
            why = f"{type(cause).__name__} {cause}".partition("\n")[0].partition(" (Request")[0]
            signature = where.partition("?")[2] or where
            why, status = why.replace(signature, "...")[:200], getattr(cause, "status", 0)
            if isinstance(cause, FileNotFoundError) or status in (404, 410):
                raise FileNotFoundError(why) from None
            if any(word in why for word in MISSING):
                raise FileNotFoundError(why) from None
            denied = status in (401, 403) or isinstance(cause, PermissionError)
            if denied or any(word in why for word in DENIED):
                raise InputError(
                    f"{shown(where)} may not be read with the credentials that are set here: {why}"
                ) from None
            if turn == TRIES - 1:
                raise InputError(
                    f"{shown(where)} cannot be fetched, tried {TRIES} times: {why}; what came is "
                    "kept, run the same command again"
                ) from None
            time.sleep(PAUSE * 2**turn)
    raise AssertionError


def _system(where: str) -> tuple[Any, str]:
    """(fsspec's file system, the path in it)."""
    scheme, _, rest = where.partition("://")
    if scheme in ("http", "https"):
        return _fsspec("http"), where
    if scheme in ("s3", "gs", "gcs"):
        kind, bucket = "s3" if scheme == "s3" else "gs", rest.partition("/")[0]
        if (kind, bucket) not in STORES:
            STORES[kind, bucket] = _bucket(kind, bucket, rest.rstrip("/"))
        return STORES[kind, bucket], rest.rstrip("/")
    return _fsspec(scheme), rest.rstrip("/")


@functools.lru_cache(maxsize=8)
def _fsspec(scheme: str) -> Any:
    import fsspec

    try:
        if scheme != "http":
            return fsspec.filesystem(scheme)
        import aiohttp

        patience = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER / 4, sock_read=ANSWER)
        return fsspec.filesystem("http", client_kwargs={"timeout": patience})
    except (ImportError, ValueError) as error:
        raise InputError(
            f"{scheme}:// is read by a library that is not here ({error}): "
            "pip install 'datablame[hub]'"
        ) from None


def _bucket(kind: str, bucket: str, path: str) -> Any:
    """An object store, with the credentials of this machine or, where these do not open what lies
    at the path, with none.
    """
    from fsspec.implementations.arrow import ArrowFSWrapper
    from pyarrow import fs

    def store(anonymous: bool) -> Any:
        if kind == "gs":
            patience = datetime.timedelta(seconds=ANSWER / 4)
            return fs.GcsFileSystem(anonymous=anonymous, retry_time_limit=patience)
        end = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region and not end:
            region = fs.resolve_s3_region(bucket)
        return fs.S3FileSystem(
            anonymous=anonymous,
            region=region or "us-east-1",
            endpoint_override=end,
            connect_timeout=ANSWER / 4,
            request_timeout=ANSWER,
        )

    def opened(anonymous: bool) -> Any:
        found = store(anonymous)
        found.get_file_info(path)  # says whether it may be read
        return found

    def first() -> Any:
        try:
            return opened(False)
        except FileNotFoundError:
            raise
        except OSError as error:
            if not any(word in str(error) for word in DENIED):
                raise
        return opened(True)

    where = f"{kind}://{bucket}"
    try:
        return ArrowFSWrapper(_patiently(where, first))
    except FileNotFoundError:
        raise InputError(f"there is no bucket {where}") from None


def _listed(fs: Any, path: str) -> list[Thing]:
    """A file, or all files in a folder. Raises FileNotFoundError where there is neither."""
    about = fs.info(path)
    if about["type"] != "directory":
        return [Thing(path, _size(about), _version(about))]
    if hasattr(fs, "fs"):  # pyarrow's lists a tree at once
        from pyarrow.fs import FileSelector, FileType

        found = fs.fs.get_file_info(FileSelector(path, recursive=True))
        plain = [each for each in found if each.type == FileType.File]
        things = [Thing(each.path, int(each.size), int(each.mtime_ns or 0)) for each in plain]
    else:
        found = fs.find(path, detail=True)
        things = [Thing(n, _size(each), _version(each)) for n, each in found.items()]
    if not things:
        raise FileNotFoundError(path)
    return things


def _size(about: dict[str, Any]) -> int:
    size = about.get("size")
    return -1 if size is None else int(size)


def _version(about: dict[str, Any]) -> int:
    """What changes with a file: nanoseconds, or a hash of its tag that looks like these."""
    if isinstance(changed := about.get("mtime"), datetime.datetime):
        return round(changed.timestamp() * 1e6) * 1000
    names = ("ETag", "etag", "blob_id", "LastModified", "Last-Modified", "last_modified")
    tag = next((str(about[name]) for name in names if about.get(name)), None)
    if tag is None:
        return 0
    return int.from_bytes(hashlib.blake2b(tag.encode(), digest_size=7).digest(), "big")
