"""``kubectl imagewright tree`` with Pods that poll a branch, and Pods with injected containers."""

from __future__ import annotations

from typing import Any

from imagewright_kubectl.commands.tree import tree
from imagewright_kubectl.kstatus import compute

BODY = {
    "metadata": {"name": "app", "generation": 1},
    "status": {"phase": "Succeeded", "build": {"id": "b", "number": 2, "outcome": "Succeeded"}},
}


def pod(name: str, build: str, *containers: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"imagewright.dev/build": build}}
    return {"metadata": metadata, "status": {"phase": "Failed", "containerStatuses": [*containers]}}


def test_a_pod_that_polls_the_branch_is_not_shown_as_a_build() -> None:
    root = tree(BODY, [pod("app-1f2e-probe", "probe"), pod("app-1", "b")])
    assert [(one.name, one.about) for one in root.children] == [
        ("build 2", ""),
        ("Pod/app-1f2e-probe", "polls the branch"),
    ]
    assert [one.name for one in root.children[0].children] == ["Pod/app-1"]


def test_a_reason_that_is_the_status_is_not_repeated() -> None:
    message = "spec.cancelled is true: set it to false to start a build"
    entry = {"number": 1, "outcome": "Cancelled", "reason": "Cancelled", "duration": "39s"}
    status = {
        "phase": "Cancelled",
        "build": {"number": 1, "outcome": "Cancelled"},
        "history": [entry],
        "conditions": [{"type": "Ready", "status": "False", "reason": "Cancelled", "message": message}],
    }
    body = {"metadata": {"name": "app", "uid": "1"}, "status": status}
    root = tree(body, [])
    assert (root.status, root.about) == ("Cancelled", message)
    assert [(node.status, node.about) for node in root.children] == [("Cancelled", "in 39s")]
    assert compute(body).summary == f"Cancelled: {message}"


def test_only_the_executors_container_counts() -> None:
    when = "2026-11-27T08:00:00Z"
    injected = {"name": "a-proxy", "state": {"waiting": {"reason": "PodInitializing"}}}
    executor = {"name": "executor", "state": {"terminated": {"reason": "OOMKilled", "finishedAt": when}}}
    history = [{"number": 1, "outcome": "Failed", "completionTime": when}]
    body = {**BODY, "status": {**BODY["status"], "history": history}}
    (_, past) = tree(body, [pod("app-0", "a", injected, executor)]).children
    assert (past.name, past.children[0].name, past.children[0].about) == ("build 1", "Pod/app-0", "OOMKilled")
