"""An HTTP server that answers what a test tells it to: wrongly, too much, too little, somewhere else.

Serves from construction to ``close`` on a loopback port and keeps what it was asked.
"""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. ``path`` has its query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def authorization(self) -> str:
        return self.headers.get("authorization", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer. ``length`` replaces the true Content-Length; the connection closes when ``body`` is out.

    ``raw`` is sent instead of all else, ``stream`` after ``body`` for as long as the client takes it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    raw: bytes | None = None
    stream: Iterable[bytes] = ()


class ScriptedServer:
    """Asks ``script`` for every answer; also a context manager."""

    def __init__(self, script: Callable[[Asked], Answer], context: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.connections = 0
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def log(self) -> list[str]:
        """Methods and paths without queries."""
        return [f"{asked.method} {asked.path.partition('?')[0]}" for asked in self.asked]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its connection open

    def __init__(self, owner: ScriptedServer, context: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.context = context
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or greets with TLS, is part of the play."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    timeout = 30

    def setup(self) -> None:
        if self.server.context is not None:
            self.request.settimeout(self.timeout)
            self.request = self.server.context.wrap_socket(self.request, server_side=True)
        self.server.owner.connections += 1
        super().setup()

    def finish(self) -> None:
        super().finish()
        if self.server.context is not None:
            self.request.close()  # the server knows the socket without TLS only

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, self.rfile.read(length))
        self.server.owner.asked.append(asked)
        self._answer(self.server.owner.script(asked))

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self, answer: Answer) -> None:
        with contextlib.suppress(OSError):
            if answer.raw is not None:
                self.wfile.write(answer.raw)
                self.close_connection = True
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
                for piece in answer.stream:
                    self.wfile.write(piece)
            if answer.length is not None:
                self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests read ``asked`` instead."""
