"""Whose memory ran out when a container of an executor Pod was killed: its own or the node's. No I/O.

The kubelet's OOMKilled does not tell: runtimes count every kill by the kernel, whether for the container's limit or for
one above it, up to the node's memory; with cgroup v1 containerd reports it even for the victim's neighbour containers.
A container without a limit cannot have reached it; an executor that survived the kill knows how much memory was used.
If a container with a limit was killed as a whole, it is unknown: it counts as the container's limit, since a build that
needs more than its limit would fail again and again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import Reason
from imagewright_operator.api.spec import RetryCause
from imagewright_operator.pods.states import EXECUTOR, RUNNER, container_of, resources_field, state_of

SIGKILL = 128 + 9  # the exit code
_REASONS_OF_KILLED_CHILD = (Reason.SANDBOX_UNAVAILABLE, Reason.SOURCE_FETCH_FAILED, Reason.INTERNAL_ERROR)


def killed_for_memory(pod: Mapping[str, Any], result: BuildResult | None) -> tuple[str, str, RetryCause | None] | None:
    """Whether a container or the node ran out of memory: reason, message and, for the node, the cause of a retry."""
    told = result.failure if result is not None else None
    if told is not None and told.reason == Reason.NODE_OUT_OF_MEMORY:
        return told.reason, sentences(told.message, told.hint), RetryCause.NODE_OUT_OF_MEMORY
    if told is not None and told.reason != Reason.OUT_OF_MEMORY and not _may_be_kill(told):
        return None
    name = _victim(pod, result)
    if not name:
        return None
    limit = _memory_limit(pod.get("spec") or {}, name)
    if not limit:
        words = f'the node ran out of memory and the container "{name}", which has no memory limit, was killed'
        return Reason.NODE_OUT_OF_MEMORY, f"{words}: {_request_more(pod, name)}", RetryCause.NODE_OUT_OF_MEMORY
    words = f'the container "{name}" ran out of memory at its limit of {limit}: raise {resources_field(pod, name, "limits.memory")}'
    if _terminated(pod, name).get("exitCode") == SIGKILL:
        words += ", or requests.memory if the build needs less: then the node ran out of memory"
    return Reason.OUT_OF_MEMORY, words, None


def killed_from_outside(pod: Mapping[str, Any], name: str) -> tuple[str, str, RetryCause | None] | None:
    """Whether a container got a SIGKILL that cannot have come from within: there PID 1 cannot be killed."""
    if _terminated(pod, name).get("exitCode") != SIGKILL:
        return None
    words = f'the container "{name}" was killed from outside (SIGKILL), possibly because the node ran out of memory'
    return Reason.NODE_OUT_OF_MEMORY, f"{words}: {_request_more(pod, name)}", RetryCause.NODE_OUT_OF_MEMORY


def sentences(message: str, hint: str) -> str:
    """Message and hint as running text: a hint is a sentence, a message has no full stop."""
    if not hint:
        return message
    return f"{message}{'' if message.endswith(('.', '!', '?', ':')) else '.'} {hint}"


def _victim(pod: Mapping[str, Any], result: BuildResult | None) -> str:
    """The container that ran out of memory, "" if none is known to have.

    An executor with a result has survived: if a container was killed as a whole, it was the other one.
    """
    killed = [name for name in (EXECUTOR, RUNNER) if _terminated(pod, name).get("reason") == "OOMKilled"]
    if result is None or result.failure is None:
        return killed[0] if killed else ""
    if killed or result.failure.reason == Reason.OUT_OF_MEMORY:
        return killed[-1] if killed else _commands_container(pod, result)
    return ""


def _commands_container(pod: Mapping[str, Any], result: BuildResult) -> str:
    """The container in which the commands of this build ran."""
    has_runner = container_of((pod.get("spec") or {}).get("containers"), RUNNER)
    return RUNNER if has_runner and result.sandbox != "namespace" else EXECUTOR


def _may_be_kill(told: Failure) -> bool:
    """Whether an executor without access to the kernel's counters reports a killed child process like this."""
    return told.exit_code == SIGKILL or told.reason in _REASONS_OF_KILLED_CHILD


def _memory_limit(spec: Mapping[str, Any], name: str) -> str:
    """The container's memory limit (perhaps a LimitRange's default), else that of the whole Pod; "" for none."""
    limits = [
        (one.get("resources") or {}).get("limits") or {} for one in (container_of(spec.get("containers"), name), spec)
    ]
    return next((str(limit["memory"]) for limit in limits if limit.get("memory")), "")


def _request_more(pod: Mapping[str, Any], name: str) -> str:
    return f"set {resources_field(pod, name, 'requests.memory')} to what the build needs"


def _terminated(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return state_of(pod, name).get("terminated") or {}
