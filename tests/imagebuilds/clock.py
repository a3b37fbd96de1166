"""A monotonic clock that the test turns. No I/O. For all that is given a clock: queue, slots, census, leadership."""

from __future__ import annotations


class Clock:
    """``now`` is in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
