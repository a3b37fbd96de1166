"""ImageBuilds as a user meets them: applied by kubectl, looked at by kubectl; and a kubelet's part, where no kubelet
runs.

I/O: runs kubectl.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

from imagebuilds.waiting import PATIENCE_S, eventually

from imagewright_operator.pods.fingerprint import destinations

Json = dict[str, Any]


class Namespace:
    """A namespace of one test's own, with what a controller manager and a kubelet would do in it."""

    def __init__(
        self,
        kubectl: Callable[..., subprocess.CompletedProcess[str]],
        name: str,
        registry: str = "registry.example.com",
    ) -> None:
        self._kubectl, self.name, self._registry = kubectl, name, registry

    def tag(self, name: str = "app:1") -> str:
        """A name for an image of this namespace's own."""
        return f"{self._registry}/{self.name}/{name}"

    def try_kubectl(self, *arguments: str, given: Json | None = None) -> subprocess.CompletedProcess[str]:
        stdin = json.dumps(given) if given is not None else None
        return self._kubectl("--namespace", self.name, *arguments, stdin=stdin)

    def kubectl(self, *arguments: str, given: Json | None = None) -> str:
        done = self.try_kubectl(*arguments, given=given)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl("get", "--output=json", *arguments))
        return found

    def apply(self, name: str = "app", **spec: Any) -> None:
        self.kubectl("apply", "--filename=-", given=self.imagebuild(name, **spec))

    def imagebuild(self, name: str = "app", **spec: Any) -> Json:
        source = {"inline": {"dockerfile": "FROM scratch\n"}}
        return {
            "apiVersion": "imagewright.dev/v1alpha1",
            "kind": "ImageBuild",
            "metadata": {"name": name, "namespace": self.name},
            "spec": {"source": source, "output": {"tags": [self.tag(f"{name}:1")]}, **spec},
        }

    def status(self, name: str = "app") -> Json:
        status: Json = self.get("imagebuild", name).get("status") or {}
        return status

    def pods(self, name: str = "app") -> list[Json]:
        items: list[Json] = self.get("pods", f"--selector=imagewright.dev/imagebuild={name}")["items"]
        return items

    def pod(self, name: str = "app") -> Json:
        """The Pod, once there is one and the status names it."""
        eventually(lambda: self.status(name).get("build", {}).get("podNames"), "a Pod in the status")
        return self.get("pod", self.status(name)["build"]["podNames"][0])

    def phase(self, phase: str, name: str = "app", patience_s: float = PATIENCE_S) -> Json:
        """The status, once it has this phase."""
        return self._status_when(lambda status: status.get("phase") == phase, f"phase {phase}", name, patience_s)

    def ready(self, name: str = "app") -> str:
        """Status and reason of the Ready condition."""
        return _ready(self.status(name))

    def becomes(self, ready: str, name: str = "app", patience_s: float = PATIENCE_S) -> Json:
        """The status, once its Ready condition is ``ready``."""
        return self._status_when(lambda status: _ready(status) == ready, f"Ready={ready}", name, patience_s)

    def _status_when(self, check: Callable[[Json], bool], what: str, name: str, patience_s: float) -> Json:
        end = time.monotonic() + patience_s
        while not check(status := self.status(name)):
            if what == "phase Succeeded" and "Stalled" in {one["type"] for one in status.get("conditions", [])}:
                end = 0.0  # it has failed: there is nothing to wait for
            assert time.monotonic() < end, f"{name} never came to {what}: {json.dumps(status, indent=1)}"
            time.sleep(0.1)
        return status

    def events(self, name: str = "app") -> list[str]:
        items = self.get("events", f"--field-selector=involvedObject.name={name}")["items"]
        return [item["reason"] for item in items]

    def starts(self, pod: Json) -> None:
        state = {"running": {"startedAt": now()}}
        self.kubelet(pod, {"phase": "Running", "startTime": now(), "containerStatuses": [container(state)]})

    def ends(self, pod: Json, report: Json, exit_code: int = 0) -> None:
        message = json.dumps({"version": 1, **report})
        terminated = {
            "exitCode": exit_code,
            "reason": "Error" if exit_code else "Completed",
            "startedAt": now(),
            "finishedAt": now(),
            "message": message,
        }
        phase = "Failed" if exit_code else "Succeeded"
        self.kubelet(pod, {"phase": phase, "containerStatuses": [container({"terminated": terminated})]})

    def pushes(self, pod: Json, digit: str = "a") -> str:
        """The Pod reports a pushed image; its digest."""
        digest = "sha256:" + digit * 64
        self.ends(pod, {"digest": digest, "size": 10, "references": references(pod, digest)})
        return digest

    def kubelet(self, pod: Json, status: Json) -> None:
        """Write a Pod's status."""
        patch = json.dumps({"status": status})
        self.kubectl(
            "patch", "pod", pod["metadata"]["name"], "--subresource=status", "--type=merge", f"--patch={patch}"
        )

    def pod_event(self, pod: Json, reason: str, message: str) -> None:
        """What a kubelet has to say of a Pod."""
        metadata = pod["metadata"]
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": uuid.uuid4().hex, "namespace": self.name},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "namespace": self.name,
            },
            "reason": reason,
            "message": message,
            "type": "Warning",
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self.kubectl("create", "--filename=-", given=event)


def references(pod: Json, digest: str) -> list[str]:
    """What an executor reports to have pushed: the destinations of its request."""
    return [f"{destination}@{digest}" for destination in destinations(pod)]


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def container(state: Json) -> Json:
    return {"name": "executor", "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}


def _ready(status: Json) -> str:
    conditions = status.get("conditions", [])
    return next((f"{one['status']} {one['reason']}" for one in conditions if one["type"] == "Ready"), "")
