"""Every status version that ImageBuilds go through, by a watch on the real API server, and what is wrong with it.

I/O: one watch.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType

from imagebuilds.kstatus import kstatus
from imagebuilds.rest import IMAGEBUILDS, Json, Rest

# The table of docs/guide.md: conditions -> phases in which they may stand, and what kstatus makes of them.
_PROGRESSING = (("Ready", "Unknown"), ("Reconciling", "True"))
_WAITING = (("Ready", "False"), ("Reconciling", "True"))
_DONE = (("Ready", "True"),)
_FAILED = (("Ready", "False"), ("Stalled", "True"))
_TABLE = {
    _PROGRESSING: (("Queued", "Pending", "Running"), "InProgress"),
    _WAITING: (("Queued", "Pending"), "InProgress"),
    _DONE: (("Succeeded",), "Current"),
    _FAILED: (("Failed", "Cancelled"), "Failed"),
}


class Recorder:
    """Records from its making on until ``close``; a context manager."""

    def __init__(self, rest: Rest, path: str = IMAGEBUILDS) -> None:
        self._lock = threading.Lock()
        self._versions: dict[str, list[Json]] = defaultdict(list)
        self._latest: dict[tuple[str, str], Json] = {}
        self._arrivals: dict[str, float] = {}
        self._watch = rest.watch(path)
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._watch.close()
        self._thread.join()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def latest(self, namespace: str, name: str) -> Json | None:
        """The newest version, None when there is none or it was deleted."""
        with self._lock:
            return self._latest.get((namespace, name))

    def versions(self) -> dict[str, list[Json]]:
        """By UID, oldest first."""
        with self._lock:
            return {uid: list(versions) for uid, versions in self._versions.items()}

    def arrival(self, body: Json) -> float:
        """When this version was told of; of the monotonic clock."""
        with self._lock:
            return self._arrivals[body["metadata"]["resourceVersion"]]

    def count(self, told: str) -> int:
        """How many kstatus reads as ``told`` now."""
        with self._lock:
            return sum(1 for body in self._latest.values() if kstatus(body) == told)

    def problems(self) -> list[str]:
        """What is wrong in all that was recorded."""
        return [problem for versions in self.versions().values() for problem in problems(versions)]

    def _record(self) -> None:
        for kind, body in self._watch:
            metadata = body["metadata"]
            with self._lock:
                self._arrivals[metadata["resourceVersion"]] = time.monotonic()
                key = metadata["namespace"], metadata["name"]
                if kind == "DELETED":
                    self._latest.pop(key, None)
                else:
                    self._latest[key] = body
                    self._versions[metadata["uid"]].append(body)


@dataclass(frozen=True, slots=True)
class Line:
    """One version in a few words, for people: a row of the scenario table."""

    generation: int
    observed: int
    phase: str
    conditions: str
    verdict: str

    @classmethod
    def of(cls, body: Json) -> Line:
        status = body.get("status") or {}
        told = " ".join(f"{one['type']}={one['status']}:{one['reason']}" for one in status.get("conditions", []))
        observed = status.get("observedGeneration", 0)
        return cls(body["metadata"]["generation"], observed, status.get("phase", "-"), told or "-", kstatus(body))

    def __str__(self) -> str:
        return f"{self.generation}/{self.observed} {self.phase} {self.conditions} -> {self.verdict}"


def problems(versions: Sequence[Json]) -> list[str]:
    """What is wrong in the versions of one object, each with the version it is wrong in."""
    found = []
    for body in versions:
        found += [f"{_name(body)}: {words}: {Line.of(body)}" for words in _in_one(body)]
    for before, after in itertools.pairwise(versions):
        found += [
            f"{_name(after)}: {words}: {Line.of(before)} => {Line.of(after)}" for words in _between(before, after)
        ]
    return found


def _name(body: Json) -> str:
    metadata = body["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}@{metadata['resourceVersion']}"


def _in_one(body: Json) -> Iterator[str]:
    """By the table and kstatus's rules."""
    status, generation = body.get("status") or {}, body["metadata"]["generation"]
    conditions = status.get("conditions", [])
    observed = status.get("observedGeneration")
    if not conditions:
        if observed != -1 or kstatus(body) != "InProgress":
            yield "no conditions, though it says that it was looked at"
        return
    row = _TABLE.get(tuple((one["type"], one["status"]) for one in conditions))
    if row is None:
        yield "conditions that match no row of the table"
        return
    phases, verdict = row
    if status.get("phase") not in phases:
        yield f"phase is not one of {phases}"
    if kstatus(body) != (verdict if observed == generation else "InProgress"):
        yield f"kstatus should say {verdict}"
    if any(one.get("observedGeneration") != observed for one in conditions):
        yield "a condition of another generation than the status"
    if len({one["reason"] for one in conditions}) != 1 or not all(one.get("message") for one in conditions):
        yield "conditions of different reasons, or without a message"
    if not 0 < observed <= generation:
        yield "observedGeneration is of no generation that was"
    yield from _of_build(status, verdict)


def _of_build(status: Json, verdict: str) -> Iterator[str]:
    """The record of the build agrees with the conditions."""
    build, ready = status.get("build") or {}, status["conditions"][0]
    if verdict == "Current" and (build.get("outcome") != "Succeeded" or not status.get("image", {}).get("digest")):
        yield "done without an image"
    if status["phase"] == "Running" and not (build.get("podNames") and build.get("startTime")):
        yield "running without a Pod"
    if build.get("outcome") in ("Failed", "Cancelled", "Replaced") and not build.get("failure", {}).get("message"):
        yield "an outcome without its why"
    said = "InvalidSpec", build.get("failure", {}).get("reason")
    if verdict == "Failed" and build.get("outcome") == "Failed" and ready["reason"] not in said:
        yield "the condition's reason is not the failure's"
    numbers = [entry["number"] for entry in status.get("history", [])]
    if numbers != sorted(set(numbers), reverse=True):
        yield f"history out of order or double: {numbers}"


def _between(before: Json, after: Json) -> Iterator[str]:
    """What one version may not change of the one before it."""
    old, new = before.get("status") or {}, after.get("status") or {}
    if new != old and new.get("observedGeneration") != after["metadata"]["generation"]:
        yield "a status was written for an older spec than the one stored with it"
    if new.get("observedGeneration", 0) < old.get("observedGeneration", 0):
        yield "observedGeneration goes back"
    times = {one["type"]: (one["status"], one["lastTransitionTime"]) for one in old.get("conditions", [])}
    for one in new.get("conditions", []):
        status, time = times.get(one["type"], ("", ""))
        if status == one["status"] and time != one["lastTransitionTime"]:
            yield f"lastTransitionTime of {one['type']} moves without its status"
        if one["lastTransitionTime"] < time:
            yield f"lastTransitionTime of {one['type']} goes back"
    yield from _of_progress(old, new)


def _of_progress(old: Json, new: Json) -> Iterator[str]:
    """Builds go on and never back, and the last good image stays."""
    was, build = old.get("build") or {}, new.get("build") or {}
    if (build.get("number", 0), build.get("attempt", 1)) < (was.get("number", 0), was.get("attempt", 1)):
        yield "goes back to an earlier build or attempt"
    if was.get("number") == build.get("number") and was.get("outcome") and was["outcome"] != build.get("outcome"):
        yield f"a build that was over ({was['outcome']}) is not any more"
    had, has = old.get("image", {}).get("digest"), new.get("image", {}).get("digest")
    succeeded = {entry.get("digest") for entry in new.get("history", []) if entry["outcome"] == "Succeeded"}
    if had != has and has not in succeeded:
        yield f"the image changes from {had} to {has} without a build that succeeded"
