"""Kills the operator at a chosen request and starts it again at once.

I/O: signals and processes, by way of the proxy between operator and API server.
"""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections.abc import Callable

from imagebuilds.operator_process import Operator
from imagebuilds.proxy import Proxy

Chooser = Callable[[str, bytes, bool], bool]


class Killer:
    """``arm`` says at which request; the operator that comes back is left alone until it is armed again."""

    def __init__(self, proxy: Proxy, operator: Operator) -> None:
        self._proxy, self._operator = proxy, operator
        self._lock = threading.Lock()
        self._chooser: Chooser | None = None
        self._dead: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._next: Callable[[], Chooser | None] = lambda: None
        self.kills = 0
        self.struck: list[str] = []
        proxy.strike = self._strike
        self._reviver = threading.Thread(target=self._revive, daemon=True)
        self._reviver.start()

    def arm(self, chooser: Chooser | None, following: Callable[[], Chooser | None] = lambda: None) -> None:
        """Kill at the first request for which ``chooser`` is true; then, when it runs again, ``following`` arms the
        next kill.
        """
        with self._lock:
            self._chooser, self._next = chooser, following

    def close(self) -> None:
        self.arm(None)
        self._dead.put(False)
        self._reviver.join()

    def _strike(self, line: str, body: bytes, stored: bool) -> bool:
        with self._lock:
            if self._chooser is None or not self._chooser(line, body, stored):
                return False
            self._chooser = None
            os.kill(self._operator.pid, signal.SIGKILL)
            self.struck.append(f"{'after' if stored else 'before'} {line.partition('?')[0]}")
            self._dead.put(True)
            return True

    def _revive(self) -> None:
        while self._dead.get():
            self._operator.kill()
            self._operator.start()
            with self._lock:  # not before it runs: requests of the dead one may still be on their way to the API server
                self.kills += 1
                self._chooser = self._next()
