"""An HTTP proxy: CONNECT tunnels and whole addresses, with a login or without.

Serves from construction to ``close`` on a loopback port. It takes any name for this machine, and keeps what it was
asked: that way tests see which requests came through it.
"""

from __future__ import annotations

import http.client
import http.server
import selectors
import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit


class TunnelProxy:
    """Sends what comes for any host to the same port of the loopback address; also a context manager."""

    def __init__(self, authorization: str = "") -> None:
        self.authorization = authorization
        self.asked: list[str] = []  # "CONNECT host:port", "GET http://host/path"
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> TunnelProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True  # a client may keep its tunnel open

    def __init__(self, owner: TunnelProxy) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_CONNECT(self) -> None:
        if not self._admitted():
            return
        port = int(self.path.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as other:
            self.send_response(200)
            self.end_headers()
            _join(self.connection, other)
        self.close_connection = True

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        if not self._admitted():
            return
        url = urlsplit(self.path)
        connection = http.client.HTTPConnection("127.0.0.1", url.port or 80)
        path = url.path + (f"?{url.query}" if url.query else "")
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        connection.request(self.command, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _admitted(self) -> bool:
        self.server.owner.asked.append(f"{self.command} {self.path}")
        wanted = self.server.owner.authorization
        if not wanted or self.headers.get("Proxy-Authorization") == wanted:
            return True
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def log_message(self, format: str, *arguments: object) -> None:
        """Tests read ``asked`` instead."""


def _join(one: socket.socket, other: socket.socket) -> None:
    """Bytes of each to the other, until either ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(65536)
                if not data:
                    return
                key.data.sendall(data)
