"""A kubelet of a whole cluster that only writes statuses: executor Pods start and end when and how the test says.

I/O: a watch and status patches.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from imagebuilds.namespace import container, now, references
from imagebuilds.rest import EXECUTORS, Json, Rest, RestError

PODS = "/api/v1/pods"


@dataclass(frozen=True, slots=True)
class Part:
    """How one Pod is played: seconds until it starts and until it ends, and the status that ends it."""

    starts_s: float
    runs_s: float
    end: Json


@dataclass(slots=True)
class Seen:
    """A Pod as it was first seen, and what has become of it."""

    body: Json
    reported: bool = False  # that it has pushed, and the API server has taken it
    gone: bool = False
    created_at: float = 0.0  # as the watch has told, of the monotonic clock
    started_at: float = 0.0
    ended_at: float = 0.0


@dataclass(order=True, slots=True)
class _Cue:
    due: float
    number: int
    pod: Json = field(compare=False)
    status: Json = field(compare=False)
    follows: _Cue | None = field(compare=False, default=None)


class FakeKubelet:
    """``play`` says what becomes of a new Pod; no more than ``slots`` run at once, the others wait."""

    def __init__(self, rest: Rest, play: Callable[[Json], Part], slots: int = 10_000) -> None:
        self._rest, self._play, self._free = rest, play, slots
        self._changed = threading.Condition()
        self._cues: list[_Cue] = []
        self._counter = itertools.count()
        self._closed = False
        self.pods: dict[str, Seen] = {}  # by UID, in the order of their creation
        self.most_at_once = 0
        self.failures: list[str] = []
        self._running: set[str] = set()
        self._watch = rest.watch(PODS, labelSelector=EXECUTORS)
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._see, self._act)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._watch.close()
        for thread in self._threads:
            thread.join()

    def _see(self) -> None:
        for kind, pod in self._watch:
            uid = pod["metadata"]["uid"]
            with self._changed:
                if kind == "DELETED":
                    self.pods[uid].gone = True
                    self._running.discard(uid)
                elif uid not in self.pods:
                    self.pods[uid] = Seen(pod, created_at=time.monotonic())
                    self._cue(pod)
                self._changed.notify_all()

    def _cue(self, pod: Json) -> None:
        part = self._play(pod)
        state = {"running": {"startedAt": now()}}
        running = {"phase": "Running", "startTime": now(), "containerStatuses": [container(state)]}
        end = _Cue(part.runs_s, next(self._counter), pod, part.end)
        heapq.heappush(self._cues, _Cue(time.monotonic() + part.starts_s, next(self._counter), pod, running, end))

    def _act(self) -> None:
        while (cue := self._next()) is not None:
            uid = cue.pod["metadata"]["uid"]
            try:
                done = not self.pods[uid].gone and self._write(cue)
            except RestError as error:
                self.failures.append(str(error))
                done = False
            if not done:
                with self._changed:
                    self._running.discard(uid)
                continue
            with self._changed:
                if cue.follows is None:
                    self.pods[uid].ended_at = time.monotonic()
                    self.pods[uid].reported = cue.status == pushed(cue.pod)
                    self._running.discard(uid)
                else:
                    self.pods[uid].started_at = time.monotonic()
                    cue.follows.due += time.monotonic()
                    heapq.heappush(self._cues, cue.follows)

    def _next(self) -> _Cue | None:
        """The next thing that is due; a start waits for a slot."""
        with self._changed:
            while not self._closed:
                waiting = []
                found = None
                while self._cues and self._cues[0].due <= time.monotonic() and found is None:
                    cue = heapq.heappop(self._cues)
                    if cue.follows is not None and len(self._running) >= self._free:
                        waiting.append(cue)
                    else:
                        found = cue
                for cue in waiting:
                    heapq.heappush(self._cues, cue)
                if found is not None:
                    self._running.add(found.pod["metadata"]["uid"])
                    self.most_at_once = max(self.most_at_once, len(self._running))
                    return found
                self._changed.wait(0.02)
            return None

    def _write(self, cue: _Cue) -> bool:
        metadata = cue.pod["metadata"]
        path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/status"
        try:
            self._rest.merge(path, {"metadata": {"uid": metadata["uid"]}, "status": timed(cue.status)})
        except RestError as error:
            if error.status not in (404, 409):  # deleted meanwhile, or another of its name
                raise
            return False
        return True


def timed(status: Json) -> Json:
    """With the present time wherever the status says NOW."""
    timed: Json = json.loads(json.dumps(status).replace('"NOW"', json.dumps(now())))
    return timed


def digest_of(pod: Json) -> str:
    """What the Pod reports to have pushed: another for each Pod."""
    return "sha256:" + hashlib.sha256(pod["metadata"]["uid"].encode()).hexdigest()


def pushed(pod: Json) -> Json:
    """The status of a Pod that has pushed."""
    digest = digest_of(pod)
    return ended({"digest": digest, "size": 10, "references": references(pod, digest)})


def ended(report: Json | None, exit_code: int = 0, **status: object) -> Json:
    """The status of a Pod that has ended with this report."""
    terminated = {
        "exitCode": exit_code,
        "reason": "Error" if exit_code else "Completed",
        "startedAt": "NOW",
        "finishedAt": "NOW",
        "message": json.dumps({"version": 1, **report}) if report is not None else "",
    }
    phase = "Failed" if exit_code else "Succeeded"
    return {"phase": phase, "containerStatuses": [container({"terminated": terminated})], **status}
