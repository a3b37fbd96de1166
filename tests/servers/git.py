"""A real git server: ``git http-backend`` behind Python's HTTP server, over https or http, with a login or without.

Serves the bare repositories of a folder and says what it was asked.
"""

from __future__ import annotations

import argparse
import base64
import hmac
import http.server
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from cluster.certificates import Authority, Identity
from servers.repository import Repository


@dataclass(frozen=True, slots=True)
class GitServerOptions:
    """``state`` gets the certificates. With a username or token, every request needs it. ``redirects``: path prefix
    to address, answered before any login is asked for. ``protocol_v2`` off: only tips of refs are given."""

    root: Path
    state: Path
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1")
    bind: str = "127.0.0.1"
    port: int = 0
    tls: bool = True
    username: str = ""
    password: str = ""
    bearer: str = ""
    redirects: Mapping[str, str] = field(default_factory=dict)
    protocol_v2: bool = True
    failures: int = 0  # so many first requests are answered 503
    drops: int = 0  # so many first requests are not answered: the connection is closed
    cuts: int = 0  # so many first packs end in their middle


@dataclass(frozen=True, slots=True)
class Request:
    """What the server was asked, and its answer."""

    method: str
    path: str
    authorization: str
    status: int


class GitServer:
    """Serves from construction to ``close``; also a context manager."""

    def __init__(self, options: GitServerOptions) -> None:
        self.options = options
        self.requests: list[Request] = []
        self.cuts = options.cuts
        self.ca_file = options.state / "ca.crt"
        context: ssl.SSLContext | None = None
        if options.tls:
            authority = Authority(options.state, "imagewright test git server")
            authority.issue(Identity("server", options.hosts[0], hosts=options.hosts))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(options.state / "server.crt", options.state / "server.key")
        self._server = _Server(self, context)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, name: str, *, login: str = "", host: str = "") -> str:
        """The address of a repository, by the name of its folder."""
        scheme = "https" if self.options.tls else "http"
        return f"{scheme}://{login + '@' if login else ''}{host or self.options.hosts[0]}:{self.port}/{name}"

    def repository(self, name: str) -> Repository:
        """A new, empty repository that it serves."""
        return Repository.create(self.options.root / name)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> GitServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # close() waits for them: a test leaves nothing behind

    def __init__(self, owner: GitServer, context: ssl.SSLContext | None) -> None:
        self.owner = owner
        self.context = context
        super().__init__((owner.options.bind, owner.options.port), _Handler)

    def get_request(self) -> tuple[socket.socket, object]:
        connection, address = super().get_request()
        if self.context is not None:
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that doesn't trust us, or wants no more, ends the connection: that is its right."""
        if not isinstance(sys.exception(), (ssl.SSLError, ConnectionError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def setup(self) -> None:
        # Here, in the connection's own thread: a slow handshake must not keep others from being accepted.
        if self.server.context is not None:
            self.request.settimeout(self.timeout)
            self.request.do_handshake()
        super().setup()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        options = self.server.owner.options
        for prefix, target in options.redirects.items():
            if self.path.startswith(prefix):
                self._reply(302, {"Location": target + self.path.removeprefix(prefix)}, b"")
                return
        if len(self.server.owner.requests) < options.drops:
            self.server.owner.requests.append(Request(self.command, self.path, "", 0))
            return
        if len(self.server.owner.requests) < options.failures:
            self._reply(503, {}, b"later\n")
            return
        if not self._allowed():
            self._reply(401, {"WWW-Authenticate": 'Basic realm="git"'}, b"a login is needed\n")
            return
        status, headers, body = self._backend(self._body())
        self._reply(status, headers, body)

    def _allowed(self) -> bool:
        options = self.server.owner.options
        expected = []
        if options.username:
            pair = f"{options.username}:{options.password}".encode()
            expected.append("Basic " + base64.b64encode(pair).decode())
        if options.bearer:
            expected.append(f"Bearer {options.bearer}")
        given = self.headers.get("Authorization", "")
        return not expected or any(hmac.compare_digest(given, one) for one in expected)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        data = bytearray()
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return bytes(data)

    def _backend(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Run git http-backend as a CGI program (RFC 3875)."""
        options = self.server.owner.options
        parts = urlsplit(self.path)
        env = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROJECT_ROOT": str(options.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_ADDR": str(self.client_address[0]),
        }
        if options.protocol_v2:
            env["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
        done = subprocess.run(["git", "http-backend"], input=body, env=env, capture_output=True, check=False)
        head, _, answer = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        return int(headers.pop("Status", "200").split()[0]), headers, answer

    def _reply(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        asked = Request(self.command, self.path, self.headers.get("Authorization", ""), status)
        self.server.owner.requests.append(asked)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.owner.cuts and b"PACK" in body:
            self.server.owner.cuts -= 1
            body, self.close_connection = body[: len(body) // 2], True
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: the requests are kept for those who ask."""


def main(words: list[str]) -> int:
    """Serve until SIGTERM. With ``--repository NAME=FOLDER`` a repository is made of a folder first."""
    parser = argparse.ArgumentParser(prog="python -m servers.git", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, required=True, help="folder of the bare repositories")
    parser.add_argument("--state", type=Path, required=True, help="folder of the certificates; ca.crt is written there")
    parser.add_argument("--host", action="append", default=[], help="name or address in the certificate (repeatable)")
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8443)
    parser.add_argument("--plain", action="store_true", help="http instead of https")
    parser.add_argument("--username", default="", help="with GIT_SERVER_PASSWORD in the environment")
    parser.add_argument("--repository", action="append", default=[], metavar="NAME=FOLDER")
    given = parser.parse_args(words)
    for text in given.repository:
        name, _, folder = text.partition("=")
        path = given.root / name
        repository = Repository(path) if path.exists() else Repository.create(path)
        print(f"{name} {repository.commit_folder(Path(folder))}", flush=True)
    options = GitServerOptions(
        root=given.root,
        state=given.state,
        hosts=tuple(given.host) or ("localhost", "127.0.0.1"),
        bind=given.bind,
        port=given.port,
        tls=not given.plain,
        username=given.username,
        password=os.environ.get("GIT_SERVER_PASSWORD", ""),
    )
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with GitServer(options) as server:
        print(f"serving {server.url('')}", flush=True)
        ended.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
