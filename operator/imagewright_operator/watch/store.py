"""What this process knows of every ImageBuild: its phase, and whether it has nothing to do until it changes.

No I/O but the clock. Filled by ``resync`` from lists and by ``controller`` from each pass, read by ``resync`` and the metrics.
Only an account of what the cluster holds: every look at everything makes it anew.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from imagewright_operator.api.base import Json
from imagewright_operator.reconcile.limiter import Key


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    version: str
    phase: str
    settled: bool
    at: float

    def is_of(self, body: Json) -> bool:
        """Whether it is this very object, unchanged."""
        return (self.uid, self.version) == (body["metadata"]["uid"], body["metadata"]["resourceVersion"])


class Known(NamedTuple):
    """Which ImageBuild, and its phase as it was seen last."""

    key: Key
    phase: str


class Census:
    """Thread-safe. ``clock`` gives monotonic seconds; a list tells of the moment when it was begun."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Key, _Entry] = {}
        self._gone: dict[Key, float] = {}

    def see(self, body: Json, *, at: float | None = None) -> None:
        """It is so; or was ``at`` that time, then what is known of a later moment stays."""
        metadata, key = body["metadata"], key_of(body)
        phase = (body.get("status") or {}).get("phase") or "New"
        moment = self._clock() if at is None else at
        with self._lock:
            known = self._entries.get(key)
            if self._gone.get(key, -math.inf) > moment or (known is not None and known.at > moment):
                return
            self._gone.pop(key, None)
            stays = known is not None and known.settled and known.is_of(body)
            self._entries[key] = _Entry(metadata["uid"], metadata["resourceVersion"], phase, stays, moment)

    def settle(self, body: Json) -> None:
        """As it is here it has nothing to do, now or later."""
        key = key_of(body)
        with self._lock:
            known = self._entries.get(key)
            if known is not None and known.is_of(body):
                self._entries[key] = replace(known, settled=True)

    def gone(self, key: Key) -> None:
        """There is none of this name."""
        with self._lock:
            self._entries.pop(key, None)
            self._gone[key] = self._clock()

    def keep(self, keys: Iterable[Key], began: float) -> None:
        """A list that was ``began`` at that time has these and no others; what came after that stays."""
        listed = set(keys)
        with self._lock:
            self._entries = {key: entry for key, entry in self._entries.items() if key in listed or entry.at >= began}
            self._gone = {key: moment for key, moment in self._gone.items() if moment >= began}

    def is_settled(self, body: Json) -> bool:
        """Whether it had nothing to do when it was looked at, and hasn't changed since."""
        with self._lock:
            known = self._entries.get(key_of(body))
        return known is not None and known.settled and known.is_of(body)

    def phases(self) -> Counter[str]:
        """How many there are in each phase; ``New`` is one without a status."""
        with self._lock:
            return Counter(entry.phase for entry in self._entries.values())

    def known(self) -> dict[str, Known]:
        """All of them, by UID."""
        with self._lock:
            return {entry.uid: Known(key, entry.phase) for key, entry in self._entries.items()}


def key_of(body: Json) -> Key:
    """Its namespace and name."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])
