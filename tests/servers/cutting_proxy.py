"""A TCP proxy that cuts connections at random bytes, in either direction, by closing or by a reset.

Serves from construction to ``close`` on a loopback port. What it does follows from its seed and the order in which
connections come.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

_CHUNK = 16384
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


@dataclass(frozen=True, slots=True)
class Cut:
    """After ``count`` bytes in one direction the connection ends. ``reset`` says how."""

    upwards: bool  # from the client to the server
    count: int
    reset: bool


class CuttingProxy:
    """Forwards to ``target``; ``rate`` of all connections are cut, after at most ``longest`` bytes."""

    def __init__(
        self,
        target: tuple[str, int],
        seed: int,
        rate: float,
        longest: int = 1 << 20,
        planned: Sequence[Cut | None] = (),
    ) -> None:
        """``planned`` are the first connections' cuts, None for none; those after them are drawn."""
        self.sent = 0  # bytes from clients to the server
        self._planned = list(planned)
        self.cuts = 0
        self.connections = 0
        self._target = target
        self._random = random.Random(seed)
        self._rate = rate
        self._longest = longest
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        # A blocked accept() doesn't notice that its socket was closed by another thread.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client, self._draw()), daemon=True).start()

    def _draw(self) -> Cut | None:
        with self._lock:
            self.connections += 1
            if self._planned:
                return self._planned.pop(0)
            if self._random.random() >= self._rate:
                return None
            # As many cuts among the first hundred bytes as among the last hundred thousand.
            count = int(self._longest ** self._random.random())
            return Cut(self._random.random() < 0.5, count, self._random.random() < 0.5)

    def _connection(self, client: socket.socket, cut: Cut | None) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:
            client.close()
            return
        ended = threading.Event()
        down = None if cut is None or cut.upwards else cut
        back = threading.Thread(target=self._pump, args=(server, client, down, ended), kwargs={"upwards": False})
        back.start()
        self._pump(client, server, cut if cut is not None and cut.upwards else None, ended, upwards=True)
        back.join()
        client.close()
        server.close()

    def _pump(
        self, source: socket.socket, target: socket.socket, cut: Cut | None, ended: threading.Event, *, upwards: bool
    ) -> None:
        left = cut.count if cut is not None else None
        with contextlib.suppress(OSError):
            while not ended.is_set() and (data := source.recv(_CHUNK)):
                if left is not None:
                    data = data[:left]
                    left -= len(data)
                target.sendall(data)
                if upwards:
                    with self._lock:
                        self.sent += len(data)
                if left == 0 and cut is not None:
                    with self._lock:
                        self.cuts += 1
                    if cut.reset:
                        for each in (source, target):
                            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    ended.set()
                    break
        for each in (source, target) if ended.is_set() else (target,):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR if ended.is_set() else socket.SHUT_WR)
