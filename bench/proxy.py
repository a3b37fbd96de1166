"""A relay in front of the registry that counts what passes: the same for every builder, whatever it tells of itself.

Listens on a loopback port. Bytes go from socket to socket within the kernel (splice(2)), so that it costs next to
nothing. They are counted as TCP carries them, with HTTP's headers.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from contextlib import suppress
from types import TracebackType

_PIPE_BYTES = 1 << 20


class CountingProxy:
    """Runs from construction to ``close``; also a context manager. ``down`` and ``up`` are the bytes so far."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.down = 0
        self.up = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> CountingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        with suppress(OSError):  # a blocked accept() doesn't notice that its socket was closed
            self._server.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                registry = socket.create_connection(self._target)
                for side in (client, registry):
                    side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._connection, args=(client, registry), daemon=True).start()

    def _connection(self, client: socket.socket, registry: socket.socket) -> None:
        with client, registry:
            back = threading.Thread(target=self._relay, args=(registry, client, True), daemon=True)
            back.start()
            self._relay(client, registry, False)
            back.join()

    def _relay(self, source: socket.socket, sink: socket.socket, downwards: bool) -> None:
        """Until the source has no more; then the sink is told so."""
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            with suppress(OSError):  # a smaller pipe will do
                fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            with suppress(ConnectionError, BrokenPipeError):
                while got := os.splice(source.fileno(), writing, _PIPE_BYTES):
                    self._count(got, downwards)
                    while got:
                        got -= os.splice(reading, sink.fileno(), got)
        finally:
            os.close(reading)
            os.close(writing)
            with suppress(OSError):
                sink.shutdown(socket.SHUT_WR)
            with suppress(OSError):
                source.shutdown(socket.SHUT_RD)

    def _count(self, count: int, downwards: bool) -> None:
        with self._lock:
            if downwards:
                self.down += count
            else:
                self.up += count
