"""The health and metrics server: /healthz, /readyz and /metrics.

I/O: an HTTP server on all addresses, in a thread of its own.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

_log = logging.getLogger(__name__)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Log why a request was not answered, unless nobody waits for it: the kubelet gives up after a second."""
        if not isinstance(error := sys.exception(), ConnectionError | TimeoutError):
            _log.error("cannot answer a request from %s", client_address, exc_info=error)


class HealthServer:
    """Serves until it is closed. ``alive`` and ``ready`` are evaluated for every request."""

    def __init__(
        self, port: int, alive: Callable[[], bool], ready: Callable[[], bool], metrics: CollectorRegistry
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, generate_latest(metrics), CONTENT_TYPE_LATEST)
                elif path in ("/healthz", "/readyz"):
                    good = alive() if path == "/healthz" else ready()
                    self._answer(200 if good else 503, b"ok\n" if good else b"not ready\n", "text/plain")
                else:
                    self._answer(404, b"not found: use /healthz, /readyz or /metrics\n", "text/plain")

            def _answer(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """The kubelet asks every few seconds: requests are not logged."""

        self._server = _Server(("", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health-server", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on, which 0 leaves to the system."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
