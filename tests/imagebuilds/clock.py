"""A monotonic clock that the test sets.

No I/O. For everything that takes a clock: queue, limiter, store, leadership.
"""

from __future__ import annotations


class Clock:
    """``now`` is in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
