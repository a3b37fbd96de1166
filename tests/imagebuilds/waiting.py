"""Waiting and ports, for everything that starts processes. I/O: sockets on loopback, to find a free port."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 240.0  # a hang, not a measure of speed


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(check: Callable[[], Any], what: str = "") -> Any:
    """The first true value that ``check`` gives."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"it never came to {what or check}; last was {value!r}")
