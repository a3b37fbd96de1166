"""The concurrency limiter: limits for the installation and for each namespace, and a fair order among queued builds.

No I/O but the clock. It only counts what the cluster holds, and every resync counts again. Several operators at once
count separately and choose by the same order, so they may exceed a limit for moments only.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from imagewright_operator.settings import Limits


class ObjectKey(NamedTuple):
    """Namespace and name of an ImageBuild."""

    namespace: str
    name: str


class PodKey(NamedTuple):
    """Namespace and name of a Pod: the same before it is created, while it runs, and after."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class QueuedBuild:
    """A build that is ready to start. ``since`` is its queue time, RFC 3339: the oldest of a namespace goes first."""

    key: ObjectKey
    pod: PodKey
    since: str


class ConcurrencyLimiter:
    """Thread-safe. A build counts as running from its admission until its Pod has ended or is gone.

    Of several namespaces with queued builds the one with the fewest running builds is next; of two alike, the one whose
    build was queued first. So a namespace with hundreds of builds delays another's single build by no more than one
    build.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[PodKey, float] = {}
        self._queued: dict[ObjectKey, tuple[QueuedBuild, float]] = {}
        self._released: dict[PodKey, float] = {}  # with the time: a list that was begun before may still include it
        self._withdrawn: dict[ObjectKey, float] = {}
        self._backoff_until: dict[ObjectKey | str, float] = {}  # of builds and of whole namespaces
        self._synced = False

    def acquire(self, build: QueuedBuild) -> str:
        """Admit the build, which then counts as running, and return ""; or queue it, and return the reason to wait."""
        with self._lock:
            if not self._limits or build.pod in self._running:
                self._queued.pop(build.key, None)
                self._running.setdefault(build.pod, self._clock())
                return ""
            self._queued[build.key] = (build, self._clock())
            if not self._synced:
                return "queued: the operator has just started and is still counting running builds"
            if build.key in self._startable():
                del self._queued[build.key]
                self._running[build.pod] = self._clock()
                return ""
            return self._wait_reason(build)

    def withdraw(self, key: ObjectKey) -> list[ObjectKey]:
        """Remove a build from the queue. Returns the builds that may start because of that."""
        with self._lock:
            self._withdrawn[key] = self._clock()
            return self._startable() if self._queued.pop(key, None) else []

    def mark_running(self, pod: PodKey) -> None:
        """Count a Pod of a build that exists, whichever operator has created it."""
        with self._lock:
            self._running.setdefault(pod, self._clock())
            self._released.pop(pod, None)

    def release(self, pod: PodKey) -> list[ObjectKey]:
        """Stop counting a Pod that has ended or is gone. Returns the builds that may start now."""
        with self._lock:
            return self._release(pod)

    def back_off(self, build: QueuedBuild, backoff_s: float = 0.0, *, namespace: bool = False) -> list[ObjectKey]:
        """Release an admitted build whose Pod was not created. Returns the builds that may start instead.

        For ``backoff_s`` the build is skipped; with ``namespace`` all builds of its namespace are: what cannot start
        must not keep others from starting.
        """
        with self._lock:
            skipped: ObjectKey | str = build.key.namespace if namespace else build.key
            until = self._clock() + backoff_s
            self._backoff_until[skipped] = max(self._backoff_until.get(skipped, -math.inf), until)
            return self._release(build.pod)

    def startable(self) -> list[ObjectKey]:
        """The builds that may start now."""
        with self._lock:
            return self._startable()

    def resync(
        self, pods: Iterable[PodKey], began: float, queued: Iterable[QueuedBuild] | None = None
    ) -> list[ObjectKey]:
        """Count again from lists that were begun at ``began``: all running Pods, and all queued builds if given.

        Changes after ``began`` are in no list, and are kept. Returns the builds that may start.
        """
        with self._lock:
            listed = [pod for pod in pods if self._released.get(pod, -math.inf) < began]
            self._running = dict.fromkeys(listed, began) | {pod: t for pod, t in self._running.items() if t >= began}
            self._released = {pod: t for pod, t in self._released.items() if t >= began}
            self._backoff_until = {one: t for one, t in self._backoff_until.items() if t > self._clock()}
            if queued is not None:
                self._resync_queue(queued, began)
            return self._startable()

    def _resync_queue(self, queued: Iterable[QueuedBuild], began: float) -> None:
        later = {key: entry for key, entry in self._queued.items() if entry[1] >= began}
        self._queued = {
            build.key: (build, began)
            for build in queued
            if build.pod not in self._running and self._withdrawn.get(build.key, -math.inf) < began
        } | later
        self._withdrawn = {key: t for key, t in self._withdrawn.items() if t >= began}
        self._synced = True

    def counts(self) -> tuple[int, int]:
        """How many builds run, and how many are queued."""
        with self._lock:
            return len(self._running), len(self._queued)

    def wait_reason(self, build: QueuedBuild) -> str:
        """Why a build that is not admitted waits."""
        with self._lock:
            return self._wait_reason(build)

    def _release(self, pod: PodKey) -> list[ObjectKey]:
        self._released[pod] = self._clock()
        return self._startable() if self._running.pop(pod, None) is not None else []

    def _wait_reason(self, build: QueuedBuild) -> str:
        limits, namespace = self._limits, build.key.namespace
        if limits.per_namespace and sum(pod.namespace == namespace for pod in self._running) >= limits.per_namespace:
            return f"queued: the limit of {_builds(limits.per_namespace)} for a namespace is reached"
        if limits.total and len(self._running) >= limits.total:
            return f"queued: the limit of {_builds(limits.total)} is reached"
        return "queued behind other builds"

    def _is_backing_off(self, one: ObjectKey | str) -> bool:
        return self._backoff_until.get(one, -math.inf) > self._clock()

    def _startable(self) -> list[ObjectKey]:
        """Those that may start now, in their order; without limits, all that are queued."""
        limits = self._limits
        running = Counter(pod.namespace for pod in self._running)
        free = limits.total - len(self._running) if limits.total else len(self._queued)
        queues: dict[str, list[QueuedBuild]] = {}
        for build, _ in self._queued.values():
            if not self._is_backing_off(build.key) and not self._is_backing_off(build.key.namespace):
                queues.setdefault(build.key.namespace, []).append(build)
        for queue in queues.values():
            queue.sort(key=lambda build: (build.since, build.key), reverse=True)
        chosen: list[ObjectKey] = []
        while len(chosen) < free:
            candidates = [
                (running[namespace], queue[-1].since, namespace)
                for namespace, queue in queues.items()
                if queue and not (limits.per_namespace and running[namespace] >= limits.per_namespace)
            ]
            if not candidates:
                break
            namespace = min(candidates)[2]
            running[namespace] += 1
            chosen.append(queues[namespace].pop().key)
        return chosen


def _builds(count: int) -> str:
    return "one running build" if count == 1 else f"{count} running builds"
