"""A work queue for worker threads: a key is processed by one worker at a time, and again if it was added meanwhile.

No I/O but the clock. The rules are those of client-go's workqueue: keys are deduplicated while they wait, and failures
are retried with exponential backoff. A key added with ``priority`` goes before the others: the Pod that ended counts as
running until its key is processed, which must not wait for a thousand new ImageBuilds.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")

_MIN_BACKOFF_S = 0.2
_MAX_BACKOFF_S = 60.0
_MAX_DELAY_S = 86400.0  # a time in a Pod may be any, and no thread can wait for a thousand years


class WorkQueue(Generic[Key]):
    """Thread-safe. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._priority_keys: deque[Key] = deque()
        self._ready: deque[Key] = deque()  # may hold keys that were given priority since: ``_pop`` skips them
        self._dirty: set[Key] = set()
        self._priority: set[Key] = set()
        self._working: dict[Key, float] = {}
        self._timers: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._counter = 0
        self._closed = False

    def add(self, key: Key, *, priority: bool = False) -> None:
        """Process the key as soon as a worker is free; with ``priority``, before all keys without it."""
        with self._changed:
            self._add(key, priority)

    def add_after(self, key: Key, delay_s: float) -> None:
        """Process the key in ``delay_s`` seconds or earlier; of several delays the shortest counts."""
        with self._changed:
            due = self._clock() + min(delay_s, _MAX_DELAY_S)
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
                self._fire_timers()
                key = self._pop()
                if key is not None:
                    return key
                self._changed.wait(self._timers[0][0] - self._clock() if self._timers else None)
            return None

    def done(self, key: Key) -> None:
        """The key was processed successfully."""
        with self._changed:
            self._failures.pop(key, None)
            self._finish(key)

    def failed(self, key: Key, min_backoff_s: float = 0.0) -> float:
        """The key has to be retried. Returns the backoff in seconds: doubled each time, at least ``min_backoff_s``."""
        with self._changed:
            count = self._failures.get(key, 0)
            self._failures[key] = count + 1
            self._finish(key)
        backoff_s = min(_MAX_BACKOFF_S, max(min_backoff_s, _MIN_BACKOFF_S * 2.0 ** min(count, 20)))
        self.add_after(key, backoff_s)
        return backoff_s

    def close(self) -> None:
        """Let every ``get`` return None; waiting keys are dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def depth(self) -> int:
        """The number of keys that wait for a worker."""
        with self._changed:
            return sum(1 for key in self._dirty if key not in self._working)

    def longest_work_s(self) -> float:
        """How long the slowest worker has been processing its key; 0 if none is busy."""
        with self._changed:
            return max((self._clock() - start for start in self._working.values()), default=0.0)

    def _pop(self) -> Key | None:
        for queue in (self._priority_keys, self._ready):
            while queue:
                key = queue.popleft()
                if key in self._dirty and key not in self._working:
                    self._dirty.discard(key)
                    self._priority.discard(key)
                    self._working[key] = self._clock()
                    return key
        return None

    def _add(self, key: Key, priority: bool = False) -> None:
        if key in self._dirty and (key in self._priority or not priority):
            return
        self._dirty.add(key)
        if priority:
            self._priority.add(key)
        if key not in self._working:
            self._enqueue(key)

    def _finish(self, key: Key) -> None:
        self._working.pop(key, None)
        if key in self._dirty:
            self._enqueue(key)

    def _enqueue(self, key: Key) -> None:
        (self._priority_keys if key in self._priority else self._ready).append(key)
        self._changed.notify()

    def _fire_timers(self) -> None:
        while self._timers and self._timers[0][0] <= self._clock():
            due, _, key = heapq.heappop(self._timers)
            if self._due.get(key) == due:
                del self._due[key]
                self._add(key)
