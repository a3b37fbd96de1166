"""A queue of keys for worker threads: every key is worked on by one thread at a time, and again if it changed meanwhile.

No I/O but the clock. Filled by ``handlers`` (from the event loop, without blocking it) and by timers; emptied by
``controller``. The rules are those of Kubernetes' own controllers: keys are deduplicated while they wait, a key that
is added while it is worked on is worked on once more, failures are repeated with growing pauses. A key that is added as
``first`` goes before all that are not: an ended Pod holds a slot, and must not wait behind a thousand new ImageBuilds.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 60.0


class WorkQueue(Generic[Key]):
    """Thread-safe. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._first: deque[Key] = deque()
        self._ready: deque[Key] = deque()  # one that has become one of the first is still here: ``_pop`` skips it
        self._dirty: set[Key] = set()
        self._hurried: set[Key] = set()
        self._working: dict[Key, float] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._counter = 0
        self._closed = False

    def add(self, key: Key, *, first: bool = False) -> None:
        """Have it worked on as soon as a worker is free; ``first``: before all that were not added so."""
        with self._changed:
            self._add(key, first)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Have it worked on in ``delay_s`` seconds, or earlier; of several times the earliest holds."""
        with self._changed:
            due = self._clock() + delay_s
            if key in self._due and self._due[key] <= due:
                return
            self._due[key] = due
            self._counter += 1
            heapq.heappush(self._timers, (due, self._counter, key))
            self._changed.notify()

    def get(self) -> Key | None:
        """Wait for a key; None when the queue is closed. ``done`` or ``failed`` must follow."""
        with self._changed:
            while not self._closed:
                self._fire()
                key = self._pop()
                if key is not None:
                    return key
                self._changed.wait(self._timers[0][0] - self._clock() if self._timers else None)
            return None

    def done(self, key: Key) -> None:
        """It was worked on with success."""
        with self._changed:
            self._failures.pop(key, None)
            self._finish(key)

    def failed(self, key: Key, least_s: float = 0.0) -> float:
        """It has to be repeated; the pause in seconds, doubled each time, at least ``least_s``, is given back."""
        with self._changed:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
            self._finish(key)
        pause = min(_LONGEST_PAUSE_S, max(least_s, _FIRST_PAUSE_S * 2.0 ** min(count, 20)))
        self.add_after(key, pause)
        return pause

    def close(self) -> None:
        """Let every ``get`` return None; what waits is forgotten."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def depth(self) -> int:
        """How many keys wait for a worker."""
        with self._changed:
            return sum(1 for key in self._dirty if key not in self._working)

    def longest_work_s(self) -> float:
        """For how long the slowest worker has been at its key; 0 when none works."""
        with self._changed:
            return max((self._clock() - start for start in self._working.values()), default=0.0)

    def _pop(self) -> Key | None:
        for line in (self._first, self._ready):
            while line:
                key = line.popleft()
                if key in self._dirty and key not in self._working:
                    self._dirty.discard(key)
                    self._hurried.discard(key)
                    self._working[key] = self._clock()
                    return key
        return None

    def _add(self, key: Key, first: bool = False) -> None:
        if key in self._dirty and (key in self._hurried or not first):
            return
        self._dirty.add(key)
        if first:
            self._hurried.add(key)
        if key not in self._working:
            self._line_up(key)

    def _finish(self, key: Key) -> None:
        self._working.pop(key, None)
        if key in self._dirty:
            self._line_up(key)

    def _line_up(self, key: Key) -> None:
        (self._first if key in self._hurried else self._ready).append(key)
        self._changed.notify()

    def _fire(self) -> None:
        while self._timers and self._timers[0][0] <= self._clock():
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)
