"""Waiting, for everything that starts processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PATIENCE_S = 240.0  # a hang, not a measure of speed


def eventually(check: Callable[[], Any], what: str = "") -> Any:
    """The first true value that ``check`` gives."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"it never came to {what or check}; last was {value!r}")
