"""A proxy between the operator and its API server that makes faults.

I/O: an HTTP server on loopback, HTTPS to the API server.
"""

from __future__ import annotations

import http.client
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASS, CUT = 0, -1


class Proxy:
    """Between operator and API server. ``rule`` says of each request: PASS, CUT, or the HTTP status to answer.

    ``after`` is called with each request that the API server has answered, before the operator learns of it.
    ``strike`` is given each request's line and body twice, before the API server sees it (False) and once it has
    answered (True); where it says True the operator gets no answer. ``reshape`` is given a watch's lines as they come.
    """

    def __init__(self, port: int, certificate: str) -> None:
        self.rule: Callable[[str], int] = lambda _: PASS
        self.after: Callable[[str], None] = lambda _: None
        self.strike: Callable[[str, bytes, bool], bool] = lambda *_: False
        self.reshape: Callable[[Iterator[bytes]], Iterator[bytes]] = lambda lines: lines
        self.requests: list[str] = []
        self.sizes: list[tuple[str, int]] = []  # of the answers' bodies, once they are through
        context = ssl.create_default_context(cafile=certificate)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                line = f"{self.command} {self.path}"
                proxy.requests.append(line)
                self.close_connection = True
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                verdict = CUT if proxy.strike(line, body, False) else proxy.rule(line)
                if verdict == CUT:
                    return
                if verdict != PASS:
                    self.send_response(verdict)
                    self.send_header("Retry-After", "1")
                    self.end_headers()
                    self.wfile.write(b'{"kind":"Status","message":"made by the test"}')
                    return
                upstream = http.client.HTTPSConnection("127.0.0.1", port, context=context)
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("host", "accept-encoding")
                }
                try:
                    upstream.request(self.command, self.path, body or None, headers)
                    answer = upstream.getresponse()
                    proxy.after(line)
                    if proxy.strike(line, body, True):
                        return
                    self.send_response(answer.status)
                    for name, value in answer.getheaders():
                        if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                            self.send_header(name, value)
                    self.end_headers()
                    size = 0
                    chunks = iter(lambda: answer.read1(65536), b"")
                    for chunk in proxy.reshape(_lines(chunks)) if "watch=true" in line else chunks:
                        size += len(chunk)
                        self.wfile.write(chunk)
                        self.wfile.flush()
                    proxy.sizes.append((line, size))
                except (OSError, http.client.HTTPException):
                    pass  # either side has gone: that is what is being tested
                finally:
                    upstream.close()

            do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = handle_any

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def count(self, pattern: re.Pattern[str]) -> int:
        return sum(1 for line in self.requests if pattern.match(line))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in lines)
