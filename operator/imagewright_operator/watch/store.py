"""A store of what is known of every ImageBuild: its phase, and whether it is idle until it changes.

No I/O but the clock. Only a cache of what the cluster holds: every full resync rebuilds it.
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
from imagewright_operator.reconcile.limiter import ObjectKey
from imagewright_operator.reconcile.trust import named_in


@dataclass(frozen=True, slots=True)
class _Entry:
    uid: str
    version: str
    phase: str
    idle: bool
    at: float
    pods: frozenset[str]

    def is_of(self, body: Json) -> bool:
        """Whether it is of this version of this object."""
        return (self.uid, self.version) == (body["metadata"]["uid"], body["metadata"]["resourceVersion"])


class StoredObject(NamedTuple):
    """The key of an ImageBuild, its phase when it was last seen, and the UIDs of the Pods that its status names."""

    key: ObjectKey
    phase: str
    pods: frozenset[str] = frozenset()


class ObjectStore:
    """Thread-safe. ``clock`` gives monotonic seconds; the content of a list counts as of the moment it was begun."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[ObjectKey, _Entry] = {}
        self._deleted: dict[ObjectKey, float] = {}

    def update(self, body: Json, *, at: float | None = None) -> None:
        """Store an object as it is now, or as it was ``at`` that time unless something later is known."""
        metadata, key = body["metadata"], key_of(body)
        phase = (body.get("status") or {}).get("phase") or "New"
        moment = self._clock() if at is None else at
        with self._lock:
            entry = self._entries.get(key)
            if self._deleted.get(key, -math.inf) > moment or (entry is not None and entry.at > moment):
                return
            self._deleted.pop(key, None)
            idle = entry is not None and entry.idle and entry.is_of(body)
            pods = named_in(body.get("status") or {})
            self._entries[key] = _Entry(metadata["uid"], metadata["resourceVersion"], phase, idle, moment, pods)

    def mark_idle(self, body: Json) -> None:
        """This version of the object needs nothing, now or later."""
        key = key_of(body)
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None and entry.is_of(body):
                self._entries[key] = replace(entry, idle=True)

    def delete(self, key: ObjectKey) -> None:
        """There is no object of this name."""
        with self._lock:
            self._entries.pop(key, None)
            self._deleted[key] = self._clock()

    def retain(self, keys: Iterable[ObjectKey], began: float) -> None:
        """Forget what is not in ``keys``, the content of a list begun at ``began``, unless it was seen later."""
        listed = set(keys)
        with self._lock:
            self._entries = {key: entry for key, entry in self._entries.items() if key in listed or entry.at >= began}
            self._deleted = {key: moment for key, moment in self._deleted.items() if moment >= began}

    def is_idle(self, body: Json) -> bool:
        """Whether this version of the object was marked idle."""
        with self._lock:
            entry = self._entries.get(key_of(body))
        return entry is not None and entry.idle and entry.is_of(body)

    def phases(self) -> Counter[str]:
        """The number of ImageBuilds in each phase; ``New`` is one without a status."""
        with self._lock:
            return Counter(entry.phase for entry in self._entries.values())

    def by_uid(self) -> dict[str, StoredObject]:
        """All ImageBuilds by their UID."""
        with self._lock:
            return {entry.uid: StoredObject(key, entry.phase, entry.pods) for key, entry in self._entries.items()}

    def pods(self, key: ObjectKey) -> frozenset[str]:
        """The UIDs of the Pods that the status of this ImageBuild names."""
        with self._lock:
            entry = self._entries.get(key)
        return entry.pods if entry is not None else frozenset()


def key_of(body: Json) -> ObjectKey:
    """Namespace and name of an object."""
    return ObjectKey(body["metadata"]["namespace"], body["metadata"]["name"])
