"""Plays many ImageBuilds at once, each by a script that waits for states in between.

I/O: by the namespace and the recorder it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

from imagebuilds.fake_kubelet import ended, pushed, timed
from imagebuilds.namespace import container, now
from imagebuilds.recorder import Line, Recorder
from imagebuilds.rest import DirectNamespace, Json
from imagebuilds.waiting import PATIENCE_S

Check = Callable[[], Any]
Script = Generator[Check, None, None]


class Actor:
    """One ImageBuild, with what its user and its kubelet do.

    What begins with ``is_`` is a check for a script to yield.
    """

    def __init__(self, name: str, place: DirectNamespace, recorder: Recorder) -> None:
        self.name, self.place, self._recorder = name, place, recorder
        self._played: set[str] = set()
        self.pod: Json = {}

    def applies(self, **spec: Any) -> None:
        self.place.apply(self.name, **spec)

    def edits(self, **spec: Any) -> None:
        self.place.edit(self.name, **spec)

    def annotates(self, **annotations: str) -> None:
        path = self.place.path("imagebuilds", self.name)
        self.place.rest.merge(path, {"metadata": {"annotations": annotations}})

    def deletes(self) -> None:
        self.place.rest.delete(self.place.path("imagebuilds", self.name))

    def is_told(self, ready: str) -> Check:
        """The Ready condition is ``ready``, of the spec that is there now."""
        return lambda: self._ready() == ready

    def is_gone(self) -> bool:
        return self._recorder.latest(self.place.name, self.name) is None

    def has_pod(self) -> bool:
        """A Pod of the current attempt is there and in the status, and it is not one that was played before: it is
        ``pod``.
        """
        body = self._recorder.latest(self.place.name, self.name)
        names = ((body or {}).get("status", {}).get("build") or {}).get("podNames", [])
        for pod in self.place.pods(self.name):
            if pod["metadata"]["name"] in names and pod["metadata"]["uid"] not in self._played:
                self.pod = pod
                self._played.add(pod["metadata"]["uid"])
                return True
        return False

    def starts(self) -> None:
        state = {"running": {"startedAt": now()}}
        self.kubelet({"phase": "Running", "startTime": now(), "containerStatuses": [container(state)]})

    def waits(self, reason: str, message: str) -> None:
        """The container can't start."""
        state = {"waiting": {"reason": reason, "message": message}}
        self.kubelet({"phase": "Pending", "containerStatuses": [container(state)]})

    def is_unscheduled(self, message: str) -> None:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.kubelet({"phase": "Pending", "conditions": [condition]})

    def mounts(self, message: str) -> None:
        """A mount fails: only an Event tells."""
        self.place.pod_event(self.pod, "FailedMount", message)

    def pushes(self) -> None:
        self.kubelet(pushed(self.pod))

    def fails(self, report: Mapping[str, Any] | None, exit_code: int = 7, **status: object) -> None:
        self.kubelet(ended(dict(report) if report is not None else None, exit_code, **status))

    def kubelet(self, status: Json) -> None:
        self.place.kubelet(self.pod, timed(status))

    def lines(self) -> list[Line]:
        """What was recorded, without repetitions."""
        lines: list[Line] = []
        for versions in self._recorder.versions().values():
            for body in versions:
                if body["metadata"]["namespace"] == self.place.name:
                    line = Line.of(body)
                    lines += [line] if not lines or lines[-1] != line else []
        return lines

    def _ready(self) -> str:
        body = self._recorder.latest(self.place.name, self.name)
        if body is None or body["status"].get("observedGeneration") != body["metadata"]["generation"]:
            return ""
        ready: Json = body["status"]["conditions"][0]
        return f"{ready['status']} {ready['reason']}"


def play(scripts: Mapping[str, Script], actors: Mapping[str, Actor]) -> None:
    """All of them to their ends, side by side."""
    waiting = {name: (script, next(script), time.monotonic()) for name, script in scripts.items()}
    while waiting:
        for name, (script, check, since) in list(waiting.items()):
            if check():
                following = next(script, None)
                if following is None:
                    del waiting[name]
                else:
                    waiting[name] = script, following, time.monotonic()
            elif time.monotonic() - since > PATIENCE_S:
                raise AssertionError(f"{name} is stuck; it came to\n" + "\n".join(map(str, actors[name].lines())))
        time.sleep(0.05)
