"""A cluster on paper: an API server, a kubelet and a clock, for what ``reconcile`` decides. No I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imagebuilds.kstatus import kstatus

from imagewright.contract.result import BuildResult, Failure, SourceResult
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import executor_pod, pod_name, poll_pod
from imagewright_operator.pods.observation import Observation
from imagewright_operator.pods.signature import Signer
from imagewright_operator.reconcile import polling, reconciler
from imagewright_operator.reconcile.actions import Actions, CreateError, ReconcileInput
from imagewright_operator.settings import Profile, Settings
from imagewright_operator.status.conditions import CONDITIONS, ConditionType
from imagewright_operator.status.records import status_patch
from imagewright_operator.watch.observing import Observer

START = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings()
SIGNER = Signer(b"k" * 32)


def result(digest: str = "sha256:" + "a" * 64, **more: Any) -> str:
    return BuildResult(
        digest=digest,
        size=10,
        references=(f"reg.example.com/app:1@{digest}",),
        source=SourceResult(commit="c" * 40),
        **more,
    ).to_json()


class Paper:
    """An API server, a kubelet and a clock on paper."""

    def __init__(self, **spec: Any) -> None:
        self.now = START
        self.settings = SETTINGS
        self.generation = 1
        self.uid = "uid-1"
        self.deleted = False
        self.annotations: dict[str, str] = {}
        self.spec: dict[str, Any] = {
            "source": {"inline": {"dockerfile": "FROM scratch\n"}},
            "output": {"tags": ["reg.example.com/app:1"]},
            **spec,
        }
        self.status: dict[str, Any] = {"observedGeneration": -1}
        self.pods: dict[str, dict[str, Any]] = {}
        self.events: list[dict[str, Any]] = []
        self.conditions: Sequence[ConditionType] = CONDITIONS
        self.wait_reason = ""
        self.log = b"step 1\nstep 2\n"
        self.created: list[str] = []
        self.posted: dict[str, str] = {}
        self.versions: list[str] = []
        self.requeue_after_s: float | None = None

    def imagebuild(self) -> ImageBuild:
        metadata = {
            "name": "app",
            "namespace": "ns",
            "uid": self.uid,
            "generation": self.generation,
            "annotations": self.annotations,
            **({"deletionTimestamp": "2026-11-25T12:00:00Z"} if self.deleted else {}),
        }
        return ImageBuild.parse({"metadata": metadata, "spec": self.spec, "status": self.status})

    def edit(self, **spec: Any) -> None:
        self.spec.update(spec)
        self.generation += 1

    def decide(self) -> tuple[ReconcileInput, Actions]:
        observations = self.observe(self.pods.values())
        observed = ReconcileInput.of(self.imagebuild(), observations, self.now)
        asked: list[str] = []

        def read_log(pod: Observation) -> bytes:
            asked.append(pod.name)
            return self.log

        def admit(build: Build) -> str:
            asked.append(build.id)
            return self.wait_reason

        observed = replace(observed, read_log=read_log, admit=admit, conditions=self.conditions)
        actions = reconciler.reconcile(observed, self.settings)
        assert len(asked) == len(set(asked)), "a log is read once a pass, and a build asks once"
        return observed, actions

    def observe(self, pods: Iterable[dict[str, Any]]) -> list[Observation]:
        observer = Observer(SIGNER, self.now, events_of=lambda _: self.events)
        return observer.observe(pods, self.uid, self.imagebuild().status)

    def step(self, cut_after: int = 99, error: CreateError | None = None) -> Actions:
        """One pass; the operator is killed after ``cut_after`` of its steps."""
        observed, actions = self.decide()
        self.requeue_after_s = actions.requeue_after_s
        if cut_after < 1:
            return actions
        self.store(actions)
        if cut_after < 2:
            return actions
        for pod in actions.delete:
            self._delete(pod.name)
        if cut_after >= 3 and actions.poll_pod and error is not None:
            self.store(Actions(polling.not_started(actions.status, error.message, self.now)))
        elif cut_after >= 3 and actions.poll_pod:
            made = self._create(poll_pod(self.imagebuild(), actions.poll_pod, SETTINGS, Profile.PLAIN), "")
            if cut_after >= 4:
                self.store(Actions(polling.started(actions.status, made)))
        if cut_after < 3 or actions.create is None:
            return actions
        if error is not None:
            self.store(reconciler.create_failed(observed, actions, error, self.settings))
            return actions
        build = actions.create
        made = self._create(executor_pod(self.imagebuild(), build, SETTINGS, Profile.PLAIN), build.inputs_hash)
        if cut_after >= 4:
            self.store(reconciler.created(observed, actions, made, self.settings))
        return actions

    def settle(self) -> Actions:
        """Passes until nothing changes."""
        for _ in range(20):
            before = json.dumps([self.status, sorted(self.pods)])
            actions = self.step()
            if json.dumps([self.status, sorted(self.pods)]) == before:
                return actions
        raise AssertionError("it never comes to rest")

    def store(self, actions: Actions) -> None:
        patch = status_patch(self.status, actions.status)
        self.status = merged(self.status, patch)
        generations = {one["observedGeneration"] for one in self.status.get("conditions", ())}
        assert generations <= {self.generation}, "every version tells which spec it is about"
        for event in actions.events:
            self.posted.setdefault(event.key, f"{event.reason}: {event.message}")
        self.versions.append(self.kstatus())

    def pod(self) -> dict[str, Any]:
        """The Pod of the current attempt."""
        build = self.imagebuild().status.build
        assert build is not None
        return self.pods[pod_name("app", build)]

    def starts(self) -> None:
        pod = self.pod()
        state = {"running": {"startedAt": rfc3339(self.now)}}
        pod["spec"]["nodeName"] = "node-1"
        pod["status"] = {"phase": "Running", "containerStatuses": [{"name": "executor", "state": state}]}

    def poll_pod(self) -> dict[str, Any]:
        """The Pod that looks where the branch is."""
        return self.pods[self.status["poll"]["podName"]]

    def answers(self, commit: str = "", **failure: Any) -> None:
        """The probe ends, with a commit or a failure."""
        report = BuildResult(source=SourceResult(commit=commit), failure=Failure(**failure) if failure else None)
        self.ends(report.to_json(), exit_code=1 if failure else 0, pod=self.poll_pod())

    def ends(self, report: str = "", exit_code: int = 0, pod: dict[str, Any] | None = None, **status: Any) -> None:
        pod = pod or self.pod()
        before = (pod["status"].get("containerStatuses") or [{"state": {}}])[0]["state"].get("running") or {}
        terminated = {
            "exitCode": exit_code,
            "reason": "Completed" if exit_code == 0 else "Error",
            "startedAt": before.get("startedAt", rfc3339(self.now)),
            "finishedAt": rfc3339(self.now),
            "message": report,
        }
        pod["status"] = {
            "phase": "Succeeded" if exit_code == 0 else "Failed",
            "containerStatuses": [{"name": "executor", "state": {"terminated": terminated}}],
            **status,
        }

    def kstatus(self) -> str:
        return kstatus({"metadata": {"generation": self.generation}, "status": self.status})

    def condition(self, kind: str) -> str:
        conditions = {one["type"]: one for one in self.status["conditions"]}
        return f"{conditions[kind]['status']} {conditions[kind]['reason']}" if kind in conditions else ""

    def wait(self, **delta: float) -> None:
        self.now += timedelta(**delta)

    def _create(self, manifest: dict[str, Any], inputs_hash: str) -> Observation:
        name = manifest["metadata"]["name"]
        if name not in self.pods:  # else 409, and the operator's own
            self.created.append(name)
            pod = SIGNER.signed(manifest, inputs_hash)
            added = {"uid": f"pod-{len(self.created)}", "creationTimestamp": rfc3339(self.now)}
            self.pods[name] = {**pod, "metadata": {**pod["metadata"], **added}, "status": {"phase": "Pending"}}
        (made,) = self.observe([self.pods[name]])
        return made

    def _delete(self, name: str) -> None:
        self.pods.pop(name, None)


def merged(before: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """The object after a JSON merge patch (RFC 7386)."""
    made = dict(before)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            made[key] = merged(made.get(key) or {}, value)
        else:
            made[key] = value
    return made


def rfc3339(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
