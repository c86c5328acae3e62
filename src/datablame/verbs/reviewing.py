"""The verb that opens a page on which people decide: review."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from datablame.base.errors import InputError, at_least
from datablame.verbs.opening import RunLike, opened

if TYPE_CHECKING:
    from datablame.decisions import Decided
    from datablame.review.server import Review
else:
    Review = Decided = Any

LOOPBACK = ("127.0.0.1", "::1", "localhost")


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
        Address of a page through which it is reached, such as a notebook's proxy:
        https://hub.example.org
    certificate
        TLS certificate, a file.
    key
        Its private key, a file.
    wait
        In Python, `wait=False` returns at once an object with `url`, `wait()` and `close()`.
    """
    from datablame.base import files, progress
    from datablame.decisions import Decided

    for package in ("starlette", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            raise InputError("a review needs a server: pip install 'datablame[review]'")
    at_least(1, 65535, port=port)
    if host not in LOOPBACK and not (certificate and key):
        raise InputError(
            f"{host} can be reached by others: give --certificate and --key, or leave out --host"
        )
    for path in (certificate, key):
        if path is not None and not path.is_file():
            raise InputError(f"there is no file {path}")
    from datablame.review.server import Review
    from datablame.review.session import Session

    found = opened(run)
    origins = () if origin is None else (origin.rstrip("/").lower(),)
    with contextlib.ExitStack() as lock:
        place = found.path / "review"
        if place.absolute() in files.HELD:
            raise InputError(f"{found.path} is reviewed already, by this program")
        try:
            lock.enter_context(files.alone(place))
        except InputError:
            raise InputError(f"{found.path} is reviewed already, by another program") from None
        page = Review(Session(found), host, port, origins, certificate, key)
        page.lock = lock.pop_all()
    progress.say(f"review: {page.url}\nits button 'finish', or Ctrl-C, ends it")
    if not wait:
        return page
    page.wait()
    return Decided.of(found.path, found.data)
