"""The verb that opens a page on which people decide: review."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.verbs.opening import RunLike, carded, opened

if TYPE_CHECKING:
    from datablame.decisions import Decided
    from datablame.review.server import Review
    from datablame.run import Run
else:
    Review = Decided = Run = Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")
ANYWHERE = ("0.0.0.0", "::")


def review(
    run: RunLike,
    *,
    port: int = 8790,
    host: str = "127.0.0.1",
    origin: str | None = None,
    certificate: Path | None = None,
    key: Path | None = None,
    wait: Annotated[bool, Parameter(parse=False)] = True,
) -> Decided | Review:
    """Open a page on this machine on which people settle the suspects, with the evidence in view.

    Returns what was decided when somebody ends it (or Ctrl-C does); decisions are kept in
    review.sqlite of the run, and `clean`, `retrain`, `export` and `report` go by them. Raises
    InputError for a run that is not judged, or that is reviewed already.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    port
        Port of the page; the next free one where it is in use.
    host
        Address at which it listens; another than this machine needs --certificate and --key.
    origin
        Address that people type, where that is another: a notebook's proxy, or this machine's name
        with --host 0.0.0.0 (https://hub.example.org).
    certificate
        TLS certificate, a file.
    key
        Its private key, a file.
    wait
        In Python, `wait=False` returns at once an object with `url`, `wait()` and `close()`.
    """
    from datablame.base import progress
    from datablame.decisions import Decided

    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise InputError("a review needs a server: pip install 'datablame[review]'")
    at_least(1, 65535, port=port)
    if host not in LOOPBACK and not (certificate and key):
        raise InputError(
            f"{host} can be reached by others: give --certificate and --key, or leave out --host"
        )
    if host in ANYWHERE and origin is None:
        raise InputError(f"{host} is no address to open: say by --origin what others type")
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise InputError(f"there is no file {path}")
    from datablame.review.server import Review
    from datablame.review.session import Session

    found = opened(run)
    origins = () if origin is None else (origin.rstrip("/").lower(),)
    with contextlib.ExitStack() as lock:
        lock.enter_context(_alone(found))
        page = Review(Session(found), host, port, origins, certificate, key)
        page.lock = lock.pop_all()
    progress.tell(f"review: {page.url}\nits button 'finish', or Ctrl-C, ends it")
    if not wait:
        return page
    page.wait()
    return Decided.of(found.path, found.data)


def decided(run: RunLike, *, out: Path | None = None, read: Path | None = None) -> Decided | Path:
    """Say what people decided of a run, write it for other tools, or read what was decided there.

    Returns how many examples are settled, or the path that was written. Raises InputError where
    nothing was decided, and for files that are none of decisions.

    Parameters
    ----------
    run
        Folder of a run that has been judged.
    out
        decisions.csv, a row a decision; or tasks.json, the suspects and what was decided of them,
        for Label Studio; or, where the file is called samples.json, for FiftyOne: a folder with it
        is a FiftyOneDataset.
    read
        Decisions to add: a CSV with the columns name, act or label, and by; the JSON of Label
        Studio; the samples.json of FiftyOne, whose changed labels count.
    """
    from datablame.base import progress
    from datablame.decisions import FILE, Decided, Decisions
    from datablame.exchange import decisions as exchange

    found = opened(run)
    if out is not None and read is not None:
        raise InputError("write (--out) or read (--read), not both at once")
    if out is None and read is None:
        return Decided.of(found.path, found.data)
    if found.verdict is None:
        raise InputError(f"{found.path} is not judged yet: datablame judge {found.path}")
    said = [] if read is None else exchange.read(Path(read), found.data)
    with contextlib.closing(Decisions(found.path / FILE, found.data)) as kept:
        if out is not None:
            return exchange.write(found, kept, Path(out))
        with _alone(found):
            before = len(kept.every)
            last = {(each.row, each.by): each.means for each in kept.standing()}
            for each in said:
                if last.get((each.row, each.by)) != each.means:
                    kept.add(each)
                    last[each.row, each.by] = each.means
            progress.say(f"{len(kept.every) - before:,} decisions are new")
    return Decided.of(found.path, found.data)


@contextlib.contextmanager
def _alone(run: Run) -> Iterator[None]:
    """Hold the decisions of a run, whose card is written anew at the end. Raises InputError where
    it is reviewed already.
    """
    from datablame.base import folders

    place = run.path / "review"
    if place.absolute() in folders.HELD:
        raise InputError(f"{run.path} is reviewed already, by this program")
    with contextlib.ExitStack() as lock:
        try:
            lock.enter_context(folders.alone(place))
        except InputError:
            raise InputError(f"{run.path} is reviewed already, by another program") from None
        yield
        carded(run)
