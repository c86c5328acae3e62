"""The server of a review: loopback, a token, and nothing that another page could do."""

from __future__ import annotations

import contextlib
import hmac
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from datablame.base import progress
from datablame.base.errors import InputError
from datablame.base.readers import parse_json
from datablame.pages.figures import encoded, enlarged, thumbnail
from datablame.pages.templating import TEMPLATES, rendered
from datablame.review.session import Session, number

TOKEN = "x-datablame-token"
LARGEST, DEEP, SIDES = 1 << 16, 200, (96, 1024)
"""Bytes of a request, brackets in it, and sizes of pictures that can be had."""
PICTURE = {"cache-control": "private, max-age=3600"}
LOCAL = ("127.0.0.1", "localhost", "[::1]")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
STATIC = {"review.js": "text/javascript", "review.css": "text/css"}
NAMES = 200
"""Signs of a reviewer's name."""
PORTS = 50
"""Ports that are tried one after the other."""


@dataclass
class Guard:
    """Who may ask: requests to this host, from this page or none, with the token where there is
    something to see or to do.
    """

    app: Any
    token: str
    hosts: tuple[str, ...]
    origins: tuple[str, ...]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        from starlette.responses import JSONResponse

        known = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            known[key] = "" if key in known else value.decode("latin-1")  # twice is none
        why = self.refusal(scope["method"], scope["path"], known)

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                extra = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *extra]}
            await send(message)

        if why is None:
            await self.app(scope, receive, sent)
            return
        left = LARGEST  # what is sent is read, so that the answer is, too
        while left > 0 and (part := await receive()).get("more_body"):
            left -= len(part.get("body", b""))
        await JSONResponse({"error": why}, 403)(scope, receive, sent)

    def refusal(self, method: str, path: str, known: dict[str, str]) -> str | None:
        """Why a request is refused; None where it is not."""
        if known.get("host", "").lower() not in self.hosts:
            return "another host was asked"
        opened = method == "GET" and "/api/" not in path  # a link may lead to the bare page
        link = opened and known.get("sec-fetch-mode") == "navigate"
        if known.get("sec-fetch-site", "none") not in ("same-origin", "none") and not link:
            return "another page asks"
        if "origin" in known and known["origin"].lower() not in self.origins:
            return "another page asks"
        if method not in ("GET", "HEAD", "POST"):
            return "only GET and POST are answered"
        if "/api/" not in path:
            return None if method != "POST" else "nothing is done there"
        if not hmac.compare_digest(known.get(TOKEN, "").encode(), self.token.encode()):
            return "the token is missing or wrong: open the address that was printed"
        if method == "POST" and not known.get("content-type", "").startswith("application/json"):
            return "JSON is expected"
        return None


Given = dict[str, Any]
"""What a request asks: of its path and query, or its body."""
GET: dict[str, Callable[[Session, Given, str], Any]] = {
    "state": lambda session, given, by: session.state(),
    "queue": lambda session, given, by: session.queue(given),
    "certify": lambda session, given, by: session.certify(by),
    "certificate": lambda session, given, by: session.certificate(by),
    "example/{row:int}": lambda session, given, by: session.example(given["row"]),
    "behind/{row:int}": lambda session, given, by: session.behind_it(given["row"]),
    "heat/{row:int}": lambda session, given, by: session.heat(given["row"]),
    "image/{row:int}": lambda session, given, by: _picture(session, given),
}
POST: dict[str, Callable[[Session, Given, str], Any]] = {
    "decide": lambda session, given, by: session.decide(given, by),
    "settle": lambda session, given, by: session.settle(given, by),
    "undo": lambda session, given, by: session.undo(by),
}


def application(session: Session, done: Callable[[], None]) -> Any:
    """The Starlette application of a review; `done` is called when a reviewer ends it."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route

    def answered(work: Callable[[Session, Given, str], Any]) -> Callable[[Request], Any]:
        """What a function gives, a picture or JSON; a sentence where it refuses."""

        async def answer(request: Request) -> Response:
            try:
                by = _by(request.query_params.get("by", ""))
                body = await _body(request) if request.method == "POST" else {}
                given = {**request.query_params, **body, **request.path_params}
                found = await run_in_threadpool(work, session, given, by)
            except InputError as error:
                return JSONResponse({"error": str(error)}, 400)
            if isinstance(found, tuple):
                return Response(found[0], 200, PICTURE, f"image/{found[1]}")
            return JSONResponse(found)

        return answer

    def page(request: Request) -> Response:
        return Response(str(rendered("review", title=session.data.source)), media_type="text/html")

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in STATIC:
            return Response("not there", 404)
        return Response((TEMPLATES / name).read_bytes(), media_type=STATIC[name])

    def finish(session: Session, given: Given, by: str) -> Given:
        done()
        return {"done": True}

    posts = POST | {"finish": finish}
    routes = [Route("/", page), Route("/{name}", static)]
    routes += [Route(f"/api/{path}", answered(work)) for path, work in GET.items()]
    routes += [
        Route(f"/api/{path}", answered(work), methods=["POST"]) for path, work in posts.items()
    ]
    return Starlette(routes=routes)


def _picture(session: Session, given: Given) -> tuple[bytes, str]:
    """(a picture no larger than `side`, png or jpeg)."""
    row, side = given["row"], number(given.get("side", str(SIDES[-1])), "side")
    session.check(row)
    if side not in SIDES:
        raise InputError(f"pictures have {' or '.join(map(str, SIDES))} pixels")
    session.data.need_pictures("a picture")
    if side == SIDES[-1]:
        return enlarged(session.data, row, side)
    return encoded(thumbnail(session.data, row, side)), "png"


def _by(name: str) -> str:
    if len(name) > NAMES:
        raise InputError(f"a reviewer's name has at most {NAMES} signs")
    return name.strip()


async def _body(request: Any) -> dict[str, Any]:
    """The object of a request's body. Raises InputError for anything else."""
    content = b""
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            raise InputError(f"a request has at most {LARGEST:,} bytes")
    if content.count(b"[") + content.count(b"{") > DEEP:
        raise InputError("this is not JSON of a decision")
    try:
        found = parse_json(content or b"{}", "the request")
    except InputError:
        raise InputError("this is not JSON") from None
    if not isinstance(found, dict):
        raise InputError("an object is expected")
    return found


@dataclass
class Review:
    """A review that is open: `url` is its address, `wait` returns when somebody ends it, `close`
    ends it.
    """

    session: Session
    host: str
    port: int
    origins: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None
    lock: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    """What keeps others from reviewing the same run; let go at the end."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    def __post_init__(self) -> None:
        import uvicorn

        self.socket = _bound(self.host, self.port)
        self.port = self.socket.getsockname()[1]
        scheme = "https" if self.certificate else "http"
        names = [*LOCAL, f"[{self.host}]" if ":" in self.host else self.host.lower()]
        hosts = tuple(f"{name}:{self.port}" for name in names)
        usual = {"http": 80, "https": 443}[scheme] == self.port
        hosts += tuple(names) * usual + tuple(urlsplit(each).netloc for each in self.origins)
        self.url = f"{scheme}://{names[-1]}:{self.port}/#{self.token}"
        origins = (*(f"{scheme}://{host}" for host in hosts), *self.origins)
        self.ended = threading.Event()
        app = Guard(application(self.session, self.ended.set), self.token, hosts, origins)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            ssl_certfile=self.certificate,
            ssl_keyfile=self.key,
            timeout_graceful_shutdown=2,
        )
        try:
            config.load()
        except (OSError, ValueError) as error:
            self.socket.close()
            self.session.decisions.close()
            raise InputError(f"{self.certificate} and {self.key} are no pair: {error}") from None
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            time.sleep(0.01)
        if not self.server.started:
            raise InputError("the server did not start; are certificate and key those of a server?")

    def wait(self) -> None:
        """Until somebody ends the review, or the program is interrupted."""
        try:
            while not self.ended.wait(0.5) and self.thread.is_alive():
                pass
        except KeyboardInterrupt:
            progress.say("review ended; every decision is kept")
        self.close()

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(5)
        self.socket.close()
        self.session.decisions.close()
        self.lock.close()


def _bound(host: str, port: int) -> socket.socket:
    """A socket at this port, or at the next that is free, which is said."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for each in range(port, min(port + PORTS, 1 << 16)):
        found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # then undelayed
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((host, each))
        except OSError as error:
            found.close()
            if isinstance(error, socket.gaierror) or error.errno in (99, 22):
                raise InputError(f"this machine has no address {host}") from None
            continue
        if each != port:
            progress.say(f"port {port} is in use: this is port {each}")
        return found
    raise InputError(f"none of the ports {port} to {port + PORTS - 1} is free; name another --port")
