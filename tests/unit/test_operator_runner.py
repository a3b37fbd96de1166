"""Observations of Pods with a runner: the executor alone decides, and what happened to the runner is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from imagebuilds.paper import Paper, result

from imagewright.contract.result import BuildResult, Failure
from imagewright_operator.api.spec import RetryCause
from imagewright_operator.pods.observation import Observation, PodState, observe

END = datetime(2026, 11, 25, 12, 3, tzinfo=UTC)
GRACE_S = 30
SUCCESS = BuildResult(digest="sha256:" + "a" * 64, size=1).to_json()
RUNNING = {"running": {"startedAt": "2026-11-25T12:01:00Z"}}
GONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}
OOM = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}


def failed(reason: str, exit_code: int | None = None, sandbox: str = "root") -> str:
    return BuildResult(sandbox=sandbox, failure=Failure(reason=reason, message="words", exit_code=exit_code)).to_json()


def ended(message: str = "", exit_code: int = 1, reason: str = "Error") -> dict[str, Any]:
    terminated = {"exitCode": exit_code, "reason": reason, "finishedAt": "2026-11-25T12:03:00Z", "message": message}
    return {"terminated": terminated}


def seen(
    executor: dict[str, Any],
    runner: dict[str, Any],
    *,
    after_s: float = 1,
    commands: str = "runner",
    limits: tuple[str, str] = ("8Gi", "1Gi"),
    grace_s: int = GRACE_S,
    **status: Any,
) -> Observation:
    """A Pod ``after_s`` after its executor's end. ``limits`` are of the runner's memory and the executor's."""
    containers = [
        {"name": name, "resources": {"limits": {"memory": limit} if limit else {}}}
        for name, limit in zip(("runner", "executor"), limits, strict=True)
    ]
    pod = {
        "metadata": {"name": "app-1", "annotations": {"imagewright.dev/commands-container": commands}},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": grace_s},
        "status": {
            "phase": "Running",
            "containerStatuses": [{"name": "runner", "state": runner}, {"name": "executor", "state": executor}],
            **status,
        },
    }
    return observe(pod, END + timedelta(seconds=after_s))


def test_a_runner_that_has_ended_is_no_end_of_the_build() -> None:
    """It ends at once where the engine can run commands itself."""
    assert seen(RUNNING, GONE).state is PodState.RUNNING
    assert seen(RUNNING, OOM, after_s=3600).state is PodState.RUNNING
    waiting = {"waiting": {"reason": "ContainerCreating"}}
    assert seen(waiting, RUNNING, phase="Pending").state is PodState.WAITING


@pytest.mark.parametrize(
    ("exit_code", "message", "state"),
    [(0, SUCCESS, PodState.SUCCEEDED), (0, "", PodState.SUCCEEDED), (1, failed("StepFailed"), PodState.FAILED)],
)
def test_the_exit_code_of_the_runner_does_not_matter(exit_code: int, message: str, state: PodState) -> None:
    killed = {"terminated": {"exitCode": 137, "reason": "Error"}}
    found = seen(ended(message, exit_code), killed, phase="Failed")
    assert (found.state, found.reason) == (state, "StepFailed" if state is PodState.FAILED else "")


@pytest.mark.parametrize(
    ("message", "exit_code", "patience_s", "state", "reason"),
    [
        (SUCCESS, 0, 10, PodState.SUCCEEDED, ""),
        (failed("StepFailed"), 6, 10, PodState.FAILED, "StepFailed"),
        # stopped from outside: the Pod's phase comes with the reason
        (failed("Cancelled"), 130, 10 + GRACE_S, PodState.FAILED, "Cancelled"),
        ("", 3, 10 + GRACE_S, PodState.FAILED, "InternalError"),
    ],
)
def test_an_ended_executor_ends_the_build_even_if_the_runner_does_not_end(
    message: str, exit_code: int, patience_s: float, state: PodState, reason: str
) -> None:
    executor = ended(message, exit_code)
    assert seen(executor, RUNNING, after_s=patience_s - 0.1).state is PodState.RUNNING
    found = seen(executor, RUNNING, after_s=patience_s)
    assert (found.state, found.reason, found.lingers) == (state, reason, True)
    found = seen(executor, GONE, phase="Failed")
    assert (found.state, found.lingers) == (state, False)


def test_no_pod_lingers_for_ages() -> None:
    """Nor does a Pod that a stranger made stop the operator's passes."""
    executor = ended(failed("Cancelled"), 130)
    assert seen(executor, RUNNING, after_s=4000, grace_s=10**14).state is PodState.FAILED


def test_a_reason_that_comes_with_the_phase_is_waited_for() -> None:
    """The kubelet reports an eviction after the last container has ended."""
    executor = ended(failed("Cancelled"), 130)
    assert seen(executor, RUNNING, after_s=GRACE_S).state is PodState.RUNNING
    found = seen(executor, GONE, after_s=GRACE_S, phase="Failed", reason="Evicted", message="low on disk")
    assert (found.reason, found.retry) == ("PodEvicted", RetryCause.EVICTED)


LOST = failed("SandboxUnavailable")


@pytest.mark.parametrize(
    ("executor", "runner", "commands", "name", "unsure"),
    [
        # the runner was killed, as a whole or not, and the executor reports it as well as it can
        (ended(LOST), OOM, "runner", "runner", True),
        (ended(LOST), OOM, "executor", "runner", True),
        (ended(failed("StepFailed", 137)), {"terminated": {"exitCode": 0, "reason": "OOMKilled"}}, "runner", "runner", False),
        (ended(LOST, 8, "OOMKilled"), OOM, "runner", "runner", True),  # a neighbour, with cgroup v1
        (ended(failed("OutOfMemory")), GONE, "runner", "runner", False),
        # the executor itself
        (ended("", 137, "OOMKilled"), GONE, "runner", "engine", True),
        (ended("", 137, "OOMKilled"), OOM, "runner", "engine", True),
        (ended("", 137, "OOMKilled"), GONE, "executor", "executor", True),
        (ended(failed("OutOfMemory", sandbox="namespace")), GONE, "executor", "executor", False),
        (ended(failed("StepFailed", 137, "namespace"), 6, "OOMKilled"), GONE, "executor", "executor", False),
    ],
)  # fmt: skip
def test_the_container_that_ran_out_of_memory_is_named_with_what_to_raise(
    executor: dict[str, Any], runner: dict[str, Any], commands: str, name: str, unsure: bool
) -> None:
    found = seen(executor, runner, commands=commands, phase="Failed")
    assert (found.state, found.reason, found.retry) == (PodState.FAILED, "OutOfMemory", None)
    said = {
        "runner": 'the container "runner" ran out of memory at its limit of 8Gi: raise spec.podTemplate.resources.limits.memory',
        "executor": 'the container "executor" ran out of memory at its limit of 1Gi: raise spec.podTemplate.resources.limits.memory',
        "engine": 'the container "executor" ran out of memory at its limit of 1Gi: raise limits.memory in the operator\'s setting IMAGEWRIGHT_ENGINE_RESOURCES',
    }[name]
    words = ", or requests.memory if the build needs less: then the node ran out of memory"
    assert found.message == said + (words if unsure else "")


@pytest.mark.parametrize(
    ("told", "runner", "reason"),
    [
        (failed("StepFailed", 3), OOM, "StepFailed"),
        (failed("PushFailed"), OOM, "PushFailed"),
        (LOST, GONE, "SandboxUnavailable"),
    ],
)
def test_what_the_executor_knows_better_stays(told: str, runner: dict[str, Any], reason: str) -> None:
    found = seen(ended(told), runner, phase="Failed")
    assert (found.reason, found.message, found.retry) == (reason, "words", None)


def test_out_of_memory_of_a_container_without_a_limit_is_the_nodes() -> None:
    found = seen(ended(LOST), OOM, limits=("", "1Gi"), phase="Failed")
    assert (found.reason, found.retry) == ("NodeOutOfMemory", RetryCause.NODE_OUT_OF_MEMORY)
    assert '"runner", which has no memory limit' in found.message
    assert "spec.podTemplate.resources.requests.memory" in found.message
    found = seen(ended("", 137, "OOMKilled"), GONE, limits=("8Gi", ""), phase="Failed")
    assert '"executor", which has no memory limit' in found.message
    assert "requests.memory in the operator's setting IMAGEWRIGHT_ENGINE_RESOURCES" in found.message


@pytest.mark.parametrize(
    ("executor", "runner", "name"),
    [
        (ended(LOST), {"terminated": {"exitCode": 137, "reason": "Error"}}, "runner"),
        (ended("", 137), GONE, "executor"),
    ],
)
def test_a_container_that_was_killed_from_outside_is_named(
    executor: dict[str, Any], runner: dict[str, Any], name: str
) -> None:
    found = seen(executor, runner, phase="Failed")
    assert (found.reason, found.retry) == ("NodeOutOfMemory", RetryCause.NODE_OUT_OF_MEMORY)
    assert found.message.startswith(f'the container "{name}" was killed from outside (SIGKILL)')


@pytest.mark.parametrize("name", ["executor", "runner"])
@pytest.mark.parametrize(
    ("why", "reason", "said"),
    [
        ("ImagePullBackOff", "ImagePullFailed", "cannot pull the image of the {}: words"),
        ("CreateContainerError", "PodRejected", "cannot start the {}: words"),
        ("RunContainerError", "PodRejected", "cannot start the {}: words"),
        ("CreateContainerConfigError", "PodRejected", "cannot create the {}: words"),
    ],
)
def test_a_container_that_does_not_start_is_named(name: str, why: str, reason: str, said: str) -> None:
    creating = {"waiting": {"reason": "ContainerCreating"}}
    broken = {"waiting": {"reason": why, "message": "words"}}
    executor, runner = (broken, creating) if name == "executor" else (creating, broken)
    found = seen(executor, runner, phase="Pending")
    assert (found.state, found.reason, found.message) == (PodState.WAITING, reason, said.format(name))


@pytest.mark.parametrize(
    "runner",
    [
        {"waiting": {"reason": "CreateContainerError", "message": "no such device"}},
        {"terminated": {"exitCode": 128, "reason": "StartError", "message": "no such device"}},
    ],
)
def test_a_runner_that_did_not_start_is_why_the_executor_has_no_sandbox(runner: dict[str, Any]) -> None:
    phase = "Failed" if "terminated" in runner else "Pending"
    found = seen(ended(LOST), runner, after_s=11, phase=phase)
    assert (found.reason, found.message) == ("PodRejected", "cannot start the runner: no such device")
    found = seen(ended(failed("StepFailed")), runner, after_s=11, phase=phase)
    assert found.reason == "StepFailed", "it is needed in the root sandbox only"


def lingering() -> Paper:
    """A build whose executor has just pushed, while its runner runs on."""
    paper = Paper()
    paper.settle()
    paper.starts()
    paper.settle()
    paper.wait(seconds=83)
    paper.ends(result(), phase="Running")
    paper.pod()["status"]["containerStatuses"].insert(0, {"name": "runner", "state": RUNNING})
    return paper


def test_a_build_whose_runner_does_not_end_is_finished_and_its_pod_deleted() -> None:
    paper = lingering()
    (name,) = paper.pods
    actions = paper.settle()
    assert (paper.status["phase"], actions.requeue_after_s) == ("Running", 5.0)
    paper.wait(seconds=11)
    actions = paper.settle()
    assert paper.status["phase"] == "Succeeded"
    assert paper.status["duration"] == "1m23s"
    assert paper.status["log"]["tail"] == "step 1\nstep 2\n"
    assert [*paper.pods] == [name], "its log stays a minute"
    assert actions.requeue_after_s == 49
    paper.wait(seconds=50)
    paper.settle()
    assert (paper.status["phase"], paper.pods) == ("Succeeded", {})
    assert len(paper.created) == 1


def test_the_pod_of_a_build_whose_runner_ends_keeps_its_log() -> None:
    paper = lingering()
    paper.settle()
    paper.wait(seconds=1)
    paper.pod()["status"]["phase"] = "Succeeded"
    paper.settle()
    assert paper.status["phase"] == "Succeeded"
    paper.wait(minutes=30)
    paper.settle()
    assert len(paper.pods) == 1
