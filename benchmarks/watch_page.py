"""A fleet that is watched, over HTTP: a page that needs nothing else, the events that it draws, and figures.

Whoever reaches the port may read all of it, and can change nothing.
"""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec

from benchmarks.exposition import CONTENT_TYPE, exposition
from benchmarks.timeline import Topology, places
from benchmarks.watched import Snapshot
from broker.errors import FogError
from edge_agent.metrics import Metrics

_MOST_STREAMS: Final = 32
_PATIENCE_S: Final = 10.0
_HOP, _ROW, _MARGIN = 140, 70, 60
_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
)


class PageError(FogError):
    """The page cannot be served where it was to be."""


class Posted(NamedTuple):
    """What was known at one moment; every next one has a greater number."""

    number: int
    snapshot: Snapshot
    metrics: Mapping[str, Metrics]


class Board:
    """Holds the latest snapshot for any number of readers; who is slow misses some."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._posted: Posted | None = None

    def post(self, snapshot: Snapshot, metrics: Mapping[str, Metrics]) -> None:
        """Put up the next one."""
        with self._news:
            self._posted = Posted(self._posted.number + 1 if self._posted else 1, snapshot, metrics)
            self._news.notify_all()

    def read(self, after: int = 0) -> Posted | None:
        """Return the latest one once its number is greater than `after`; None if that takes too long."""
        with self._news:
            self._news.wait_for(lambda: self._posted is not None and self._posted.number > after, _PATIENCE_S)
            return self._posted if self._posted is not None and self._posted.number > after else None


@contextlib.contextmanager
def serving(where: str, fog: Topology, board: Board) -> Iterator[str]:
    """Serve what is on the board at HOST:PORT until the block ends, and yield the page's URL; raises PageError."""
    host, port = _address(where)
    try:
        server = _Server(host, port, page(fog), board)
    except OSError as error:
        raise PageError(f"--http {where}: cannot be listened on ({error.strerror}); choose another port") from error
    threading.Thread(target=server.serve_forever, name="watch-http", daemon=True).start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def _address(where: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{where}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or port is None or parts.netloc != where:
        raise PageError(f"--http {where!r}: write HOST:PORT, such as 127.0.0.1:8765")
    return host, port


def page(fog: Topology) -> str:
    """Return the page; it draws itself from `/events`."""
    from benchmarks.html import rendered  # needs a package that a fleet watched in a terminal does without

    spots = places(fog)
    top = max(y for _, y in spots.values())
    at = {name: (_MARGIN + _HOP * x, _MARGIN + _ROW * (top - y)) for name, (x, y) in spots.items()}
    edges = [(each.kind, *at[each.source], *at[each.target]) for each in fog.hyperconnections]
    size = tuple(_MARGIN + max(each) for each in zip(*at.values(), strict=True))
    return rendered("watch.html", at=at, edges=edges, size=size)


class _Server(ThreadingHTTPServer):
    def __init__(self, host: str, port: int, shown: str, board: Board) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.shown, self.board = shown, board
        self.streams = threading.Semaphore(_MOST_STREAMS)
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of readers that went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path == "/":
            self._reply("text/html; charset=utf-8", self.server.shown)
        elif path == "/metrics" and (posted := self.server.board.read()):
            self._reply(CONTENT_TYPE, exposition(posted.snapshot, posted.metrics))
        elif path == "/events" and self.server.streams.acquire(blocking=False):
            try:
                self._stream()
            finally:
                self.server.streams.release()
        elif path in ("/metrics", "/events"):
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _stream(self) -> None:
        """Send each snapshot as it is posted, as server-sent events, until the reader goes away."""
        self._begin("text/event-stream")
        number = 0
        while True:
            posted = self.server.board.read(number)
            if posted is None:
                self.wfile.write(b": nothing new\n\n")
                continue
            number = posted.number
            self.wfile.write(b"data: " + msgspec.json.encode(posted.snapshot) + b"\n\n")

    def _reply(self, content_type: str, text: str) -> None:
        self._begin(content_type)
        self.wfile.write(text.encode())

    def _begin(self, content_type: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.end_headers()

    def log_message(self, *_words: Any) -> None:
        """Say nothing: the terminal shows the fleet."""
