"""The page's server: this machine only, one reviewer, one secret address, and an end of its own.

Every request needs the token in its path and a Host header of this machine, so that no other page
in the browser (which may know the port, or let a name of its own lead here) reads or decides
anything. What is sent is JSON, of a bounded size; nothing of it becomes markup.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import secrets
import socket
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.web import Application, HTTPError, RequestHandler

from ..errors import DskrobustError, OutputError, system_reason
from .session import Session

HOST = "127.0.0.1"
NAMES = (
    HOST,
    "localhost",
)  # what the Host header may say, with any port: of a tunnel it is another
MOST_BODY = 64 * 1024
HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Place = Annotated[int, Meta(ge=0)]
Text = Annotated[str, Meta(max_length=10_000)]


class Decided(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends of a decision."""

    place: Place
    decision: Literal["keep", "relabel", "drop", "unsure"]
    label: Text | None = None
    comment: Text = ""


class Undone(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends to take a decision back: of a place, or the last one of this review."""

    place: Place | None = None


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """What the page sends to end the review."""


class Server:
    """Serves a session from a thread of its own until it is closed.

    Parameters
    ----------
    session : Session
    port : int
        0 takes a free one.
    idle : float
        Seconds without a request after which it ends.

    Raises
    ------
    OutputError
        Where the port is taken.
    """

    def __init__(self, session: Session, port: int, idle: float) -> None:
        self.session, self.idle = session, idle
        self.token = secrets.token_urlsafe(32)
        self.asked = time.monotonic()
        self.reason = ""
        try:
            self._socket = socket.create_server((HOST, port))
        except OSError as error:
            said = f"port {port} of {HOST} cannot be had: {system_reason(error)}; choose another"
            raise OutputError(said) from error
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self._ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="review", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Of the page."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended; whether it has."""
        return self._ended.wait(seconds)

    def close(self, reason: str = "") -> None:
        """End it; from any thread."""
        self.reason = self.reason or reason
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(stop.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        finally:
            self._ended.set()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        handlers = [
            (r"/[^/]*/?", Page),
            (r"/[^/]*/cases/(\d{1,9})", CaseOf),
            (r"/[^/]*/facts", Facts),
            (r"/[^/]*/progress", Progress),
            (r"/[^/]*/decisions", Decide),
            (r"/[^/]*/undo", Undo),
            (r"/[^/]*/end", End),
        ]
        application = Application(
            [(pattern, handler, {"server": self}) for pattern, handler in handlers],
            default_handler_class=Elsewhere, default_handler_args={"server": self},
            log_function=lambda handler: None,  # addresses hold the token
        )  # fmt: skip
        http = HTTPServer(application, max_body_size=MOST_BODY, max_header_size=MOST_BODY)
        http.add_socket(self._socket)
        while not self._stop.is_set():
            rest = self.idle - (time.monotonic() - self.asked)
            if rest <= 0:
                self.reason = "idle"
                break
            try:
                await asyncio.wait_for(self._stop.wait(), rest)
            except TimeoutError:
                continue
        http.stop()
        await http.close_all_connections()


class Base(RequestHandler):
    """A request that is checked before anything is done for it."""

    server: Server

    def initialize(self, server: Server) -> None:
        self.server = server

    def set_default_headers(self) -> None:
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")

    def prepare(self) -> None:
        if not is_allowed(self.request, self.server.token):
            raise HTTPError(403)
        self.server.asked = time.monotonic()

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say what is wrong in a line, of what we know: nothing of the request comes back."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        said = f"{status_code} {self._reason}"
        if isinstance(error, DskrobustError):
            said = str(error)
        elif isinstance(error, OSError):
            said = f"the decision was not written: {system_reason(error)}"
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps({"error": said}))

    def log_exception(self, *args: Any) -> None:
        """Keep the terminal of the command as it is; the page says it."""

    def send(self, values: Any) -> None:
        """Answer with plain values."""
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.finish(json.dumps(values, allow_nan=False))

    def received(self, kind: type[Any]) -> Any:
        """Return what the page sent.

        Raises
        ------
        HTTPError
            Where it is not of that form.
        """
        if self.request.headers.get("Content-Type", "").split(";")[0] != "application/json":
            raise HTTPError(415)
        try:
            return msgspec.json.decode(self.request.body, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise HTTPError(400) from error

    def known(self, place: int) -> int:
        """Return the place of a case that there is."""
        if place >= len(self.server.session.cases):
            raise HTTPError(404)
        return place


def is_allowed(request: HTTPServerRequest, token: str) -> bool:
    """Whether a request is of the page: by host, token and, to change things, origin."""
    host = (request.headers.get("Host") or "").rpartition(":")
    name = host[0] if host[1] and host[2].isdigit() else request.headers.get("Host")
    if name not in NAMES:
        return False
    given = request.path.split("/")[1] if request.path.startswith("/") else ""
    if not hmac.compare_digest(given.encode(), token.encode()):
        return False
    if request.method in ("GET", "HEAD"):
        return True
    origin = request.headers.get("Origin")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site == "same-origin" and origin in (None, f"http://{request.headers['Host']}")


class Elsewhere(Base):
    """What is not there."""

    def prepare(self) -> None:
        super().prepare()
        raise HTTPError(404)


class Page(Base):
    """The page itself."""

    def get(self) -> None:
        nonce = secrets.token_urlsafe(16)
        folder = files(__package__) / "page"
        parts = {name: (folder / name).read_text("utf-8") for name in PARTS}
        page = parts["page.html"].replace("NONCE", nonce)
        page = page.replace("/* page.css */", parts["page.css"])
        page = page.replace("/* page.js */", parts["page.js"])
        self.set_header("Content-Security-Policy", POLICY.format(nonce))
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(page)


PARTS = ("page.html", "page.css", "page.js")


class CaseOf(Base):
    """A case."""

    def get(self, place: str) -> None:
        self.send(self.server.session.case(self.known(int(place))))


class Facts(Base):
    """What stays as it is."""

    def get(self) -> None:
        self.send(self.server.session.facts())


class Progress(Base):
    """How all cases are decided."""

    def get(self) -> None:
        self.send(self.server.session.progress())


class Decide(Base):
    """A decision that is made."""

    def post(self) -> None:
        asked: Decided = self.received(Decided)
        session = self.server.session
        session.decide(self.known(asked.place), asked.decision, asked.label, asked.comment)
        self.send(session.progress())


class Undo(Base):
    """A decision that is taken back."""

    def post(self) -> None:
        asked: Undone = self.received(Undone)
        session = self.server.session
        place = session.undo(None if asked.place is None else self.known(asked.place))
        self.send({**session.progress(), "undone": place})


class End(Base):
    """The end of the review."""

    def post(self) -> None:
        self.received(Nothing)
        self.send({"ended": True})

    def on_finish(self) -> None:
        if self.get_status() == 200:
            loop: Callable[..., Any] = asyncio.get_running_loop().call_later
            loop(0.2, self.server.close, "done")
