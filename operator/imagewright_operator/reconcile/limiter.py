"""Which builds may run now: limits for the installation and for each namespace, and a fair order among those that wait.

No I/O but the clock; what is here is only a count of what the cluster holds, made anew by every resync. Asked by
``controller`` before it creates a Pod, told by it of every Pod that comes, ends or goes. Several operators at once each
count for themselves and choose by the same order, so they may exceed a limit for moments only.
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


class Key(NamedTuple):
    """Which ImageBuild."""

    namespace: str
    name: str


class PodKey(NamedTuple):
    """Which Pod: the same before it is created, while it runs, and after."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A build that wants to start. ``since`` is its queue time, RFC 3339: the oldest of a namespace goes first."""

    key: Key
    pod: PodKey
    since: str


class Slots:
    """Thread-safe. A slot is held from the permission to create a Pod until that Pod has ended or is gone.

    Of several namespaces that wait the one with the fewest builds running is next; of two alike, that whose build has
    waited longest. So one namespace with hundreds of builds delays another's single one by no more than a build.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[PodKey, float] = {}
        self._waiting: dict[Key, tuple[Claim, float]] = {}
        self._released: dict[PodKey, float] = {}  # and when: a list that was begun before may still have it
        self._left: dict[Key, float] = {}
        self._put_off: dict[Key | str, float] = {}  # builds and whole namespaces, and until when
        self._counted = False

    def take(self, claim: Claim) -> str:
        """``""`` and a slot, held from now on; else why there is none, and the claim waits in its order."""
        with self._lock:
            if not self._limits or claim.pod in self._held:
                self._waiting.pop(claim.key, None)
                self._held.setdefault(claim.pod, self._clock())
                return ""
            self._waiting[claim.key] = (claim, self._clock())
            if not self._counted:
                return "the operator has just started and counts the builds that run"
            if claim.key in self._next():
                del self._waiting[claim.key]
                self._held[claim.pod] = self._clock()
                return ""
            return self._why(claim)

    def leave(self, key: Key) -> list[Key]:
        """This one wants no slot; who may start because of that."""
        with self._lock:
            self._left[key] = self._clock()
            return self._next() if self._waiting.pop(key, None) else []

    def hold(self, pod: PodKey) -> None:
        """This Pod is there, whoever has created it."""
        with self._lock:
            self._held.setdefault(pod, self._clock())
            self._released.pop(pod, None)

    def release(self, pod: PodKey) -> list[Key]:
        """This Pod has ended or is gone; who may start now."""
        with self._lock:
            return self._free(pod)

    def give_back(self, claim: Claim, pause_s: float = 0.0, *, namespace: bool = False) -> list[Key]:
        """No Pod came of the slot; who may start instead.

        For ``pause_s`` the build, or its whole ``namespace`` where the reason is the namespace's, is nobody's turn: what
        can't start must not keep others from starting.
        """
        with self._lock:
            who: Key | str = claim.key.namespace if namespace else claim.key
            self._put_off[who] = max(self._put_off.get(who, -math.inf), self._clock() + pause_s)
            return self._free(claim.pod)

    def ready(self) -> list[Key]:
        """Who may start now."""
        with self._lock:
            return self._next()

    def recount(self, pods: Iterable[PodKey], began: float, claims: Iterable[Claim] | None = None) -> list[Key]:
        """All Pods that run, and all builds that wait if they were listed too, as lists that were begun at ``began``
        have them; who may start.

        What has happened after that is in no list, and stays.
        """
        with self._lock:
            there = [pod for pod in pods if self._released.get(pod, -math.inf) < began]
            self._held = dict.fromkeys(there, began) | {pod: t for pod, t in self._held.items() if t >= began}
            self._released = {pod: t for pod, t in self._released.items() if t >= began}
            self._put_off = {one: t for one, t in self._put_off.items() if t > self._clock()}
            if claims is not None:
                self._recount_waiting(claims, began)
            return self._next()

    def _recount_waiting(self, claims: Iterable[Claim], began: float) -> None:
        later = {key: entry for key, entry in self._waiting.items() if entry[1] >= began}
        self._waiting = {
            claim.key: (claim, began)
            for claim in claims
            if claim.pod not in self._held and self._left.get(claim.key, -math.inf) < began
        } | later
        self._left = {key: t for key, t in self._left.items() if t >= began}
        self._counted = True

    def counts(self) -> tuple[int, int]:
        """How many Pods hold a slot, and how many builds wait for one."""
        with self._lock:
            return len(self._held), len(self._waiting)

    def why(self, claim: Claim) -> str:
        """Why a build that may not start waits."""
        with self._lock:
            return self._why(claim)

    def _free(self, pod: PodKey) -> list[Key]:
        self._released[pod] = self._clock()
        return self._next() if self._held.pop(pod, None) is not None else []

    def _why(self, claim: Claim) -> str:
        limits, namespace = self._limits, claim.key.namespace
        if limits.per_namespace and sum(pod.namespace == namespace for pod in self._held) >= limits.per_namespace:
            return f"waits its turn: {_builds(limits.per_namespace)} may run at once in a namespace"
        if limits.total and len(self._held) >= limits.total:
            return f"waits its turn: {_builds(limits.total)} may run at once"
        return "waits its turn: others are before it"

    def _is_put_off(self, one: Key | str) -> bool:
        return self._put_off.get(one, -math.inf) > self._clock()

    def _next(self) -> list[Key]:
        """Those that may start now, best first; all that wait where nothing limits them."""
        limits = self._limits
        running = Counter(pod.namespace for pod in self._held)
        free = limits.total - len(self._held) if limits.total else len(self._waiting)
        lines: dict[str, list[Claim]] = {}
        for claim, _ in self._waiting.values():
            if not self._is_put_off(claim.key) and not self._is_put_off(claim.key.namespace):
                lines.setdefault(claim.key.namespace, []).append(claim)
        for line in lines.values():
            line.sort(key=lambda claim: (claim.since, claim.key), reverse=True)
        chosen: list[Key] = []
        while len(chosen) < free:
            open_lines = [
                (running[namespace], line[-1].since, namespace)
                for namespace, line in lines.items()
                if line and not (limits.per_namespace and running[namespace] >= limits.per_namespace)
            ]
            if not open_lines:
                break
            namespace = min(open_lines)[2]
            running[namespace] += 1
            chosen.append(lines[namespace].pop().key)
        return chosen


def _builds(count: int) -> str:
    return "one build" if count == 1 else f"{count} builds"
