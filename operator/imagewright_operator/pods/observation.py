"""What a Pod's status and Events mean for its build, as an ``Observation``.

No I/O. Failures of the infrastructure are recognized by the Pod's DisruptionTarget condition first, then by reasons.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from imagewright.contract.result import BuildResult, Failure
from imagewright.errors import Reason
from imagewright_operator.api.spec import RetryCause

PodJson = Mapping[str, Any]


class PodState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Observation:
    """One Pod at one moment.

    ``reason`` and ``message`` tell why it waits or has failed; ``transient`` is set if it starts as soon as a missing
    object exists. ``retry`` is set for failures of the infrastructure. Times are RFC 3339, "" if unknown.
    """

    state: PodState
    name: str
    uid: str
    node: str = ""
    reason: str = ""
    message: str = ""
    transient: bool = False
    retry: RetryCause | None = None
    result: BuildResult | None = None
    exit_code: int | None = None
    created: str = ""
    started: str = ""
    finished: str = ""
    deleted: str = ""  # the end of its grace period, if it is being deleted

    @property
    def ended(self) -> bool:
        return self.state in (PodState.SUCCEEDED, PodState.FAILED)


_DISRUPTIONS = {
    "PreemptionByScheduler": (Reason.POD_EVICTED, RetryCause.PREEMPTED),
    "DeletionByTaintManager": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "DeletionByPodGC": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "EvictionByEvictionAPI": (Reason.POD_EVICTED, RetryCause.EVICTED),
    "TerminationByKubelet": (Reason.POD_EVICTED, RetryCause.EVICTED),
}
_POD_REASONS = {
    "Evicted": (Reason.POD_EVICTED, RetryCause.EVICTED),
    "Preempting": (Reason.POD_EVICTED, RetryCause.PREEMPTED),
    "NodeShutdown": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "Shutdown": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "Terminated": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "NodeLost": (Reason.NODE_LOST, RetryCause.NODE_LOST),
    "NodeAffinity": (Reason.POD_EVICTED, RetryCause.EVICTED),
    "UnexpectedAdmissionError": (Reason.POD_EVICTED, RetryCause.EVICTED),
}
# The kubelet's reasons for a container that was gone when it restarted, for example after a reboot.
_CONTAINER_LOST = ("ContainerStatusUnknown", "Unknown")
_SIGKILL = 128 + 9
_REASONS_OF_KILLED_CHILD = (Reason.SANDBOX_UNAVAILABLE, Reason.SOURCE_FETCH_FAILED, Reason.INTERNAL_ERROR)
_NO_LIMIT = (
    "the node ran out of memory and the executor, which has no memory limit, was killed: "
    "set spec.podTemplate.resources.requests.memory to what the build needs"
)
_KILLED_FROM_OUTSIDE = (
    "the executor was killed from outside its container (SIGKILL), possibly because the node ran out of memory: "
    "set spec.podTemplate.resources.requests.memory to what the build needs"
)
_DISK_FULL = re.compile(
    r"Usage of EmptyDir volume|exceed(?:s|ed) (?:the total limit|the limit|its local ephemeral)", re.I
)
_IMAGE_PULL = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
_NO_SECRET = re.compile(r"secrets? \"[^\"]*\" not found|non-existent secret key|couldn't find key .* in Secret", re.I)
_NO_CONFIG_MAP = re.compile(
    r"configmaps? \"[^\"]*\" not found|non-existent config(?: ?map)? key|couldn't find key .* in ConfigMap", re.I
)
_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
# The kubelet's prefix of the sentence that a user can act on.
_MOUNT_PREFIX = re.compile(r'^MountVolume\.SetUp failed for volume "([^"]*)" *: *(?:rpc error: .*?desc = )?')
# The kubelet's only message that does not name the object: the volume does.
_NO_KEY = re.compile(r"references non-existent (secret|config(?: ?map)?) key: *(\S+)", re.I)


def observe(pod: PodJson, events: Sequence[Mapping[str, Any]] = ()) -> Observation:
    """Observe a Pod by its status, and by its Events if it waits."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    container = _executor(status.get("containerStatuses"))
    state: Mapping[str, Any] = container.get("state") or {}
    terminated: Mapping[str, Any] = state.get("terminated") or {}
    running: Mapping[str, Any] = state.get("running") or {}
    facts: dict[str, Any] = {
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "node": (pod.get("spec") or {}).get("nodeName") or "",
        "created": metadata.get("creationTimestamp") or "",
        "started": running.get("startedAt") or terminated.get("startedAt") or "",
        "finished": terminated.get("finishedAt") or "",
        "deleted": metadata.get("deletionTimestamp") or "",
        "exit_code": terminated.get("exitCode"),
        "result": BuildResult.parse(terminated.get("message") or ""),
    }
    phase = status.get("phase")
    if phase in ("Succeeded", "Failed"):
        return _ended(pod, terminated, facts)
    if running or terminated:  # terminated: the Pod's phase follows soon
        return _running(pod, facts)
    reason, message, transient = _why_waiting(pod, state.get("waiting") or {}, events)
    return Observation(state=PodState.WAITING, reason=reason, message=message, transient=transient, **facts)


def parse_time(text: str) -> datetime | None:
    """Parse a time in RFC 3339, as the API server writes it; None if it is empty or invalid."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _executor(containers: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """The executor among a Pod's containers or container statuses: webhooks may have added others."""
    containers = containers or [{}]
    return next((one for one in containers if one.get("name") == "executor"), containers[0])


def _running(pod: PodJson, facts: dict[str, Any]) -> Observation:
    """A running Pod; with a reason if it is being deleted, which nothing else reports if its node is lost."""
    if not facts["deleted"]:
        return Observation(state=PodState.RUNNING, **facts)
    reason, message, retry = _disruption(pod.get("status") or {}) or (
        Reason.POD_DELETED,
        f"Pod {facts['name']} was deleted while it was running",
        RetryCause.POD_DELETED,
    )
    return Observation(state=PodState.RUNNING, reason=reason, message=message, retry=retry, **facts)


def _ended(pod: PodJson, terminated: Mapping[str, Any], facts: dict[str, Any]) -> Observation:
    result: BuildResult | None = facts["result"]
    status = pod.get("status") or {}
    if not facts["finished"]:
        facts["finished"] = _last_change(status) or facts["deleted"]
    if result is not None and result.failure is None and result.digest:
        return Observation(state=PodState.SUCCEEDED, **facts)  # it pushed, whatever happened to the Pod afterwards
    if status.get("phase") == "Succeeded":
        return Observation(state=PodState.SUCCEEDED, **facts)  # its result may still be the last line of its log
    reason, message, retry = _why_failed(pod, terminated, result)
    return Observation(state=PodState.FAILED, reason=reason, message=message, retry=retry, **facts)


def _why_failed(
    pod: PodJson, terminated: Mapping[str, Any], result: BuildResult | None
) -> tuple[str, str, RetryCause | None]:
    """Reason, message and, for a failure of the infrastructure, the cause of a retry.

    A disruption takes precedence over the executor's result, which reports a RUN that the kubelet killed as a failed
    RUN.
    """
    status = pod.get("status") or {}
    why, words = status.get("reason") or "", status.get("message") or ""
    if why == "DeadlineExceeded":
        return Reason.TIMEOUT, "build exceeded spec.timeout", None
    if why == "Evicted" and _DISK_FULL.search(words):
        return (
            Reason.DISK_FULL,
            f"{words.rstrip('. ')}: the build needs more disk space than the executor may use",
            None,
        )
    disruption = _disruption(status)
    if disruption is not None:
        return disruption
    if why in _POD_REASONS or why.startswith("OutOf"):
        reason, retry = _POD_REASONS.get(why, (Reason.POD_EVICTED, RetryCause.EVICTED))
        return reason, words or f"Pod ended: {why}", retry
    killed = _killed_for_memory(pod.get("spec") or {}, terminated, result)
    if killed is not None:
        return killed
    if terminated.get("reason") in _CONTAINER_LOST:
        return Reason.NODE_LOST, terminated.get("message") or "the node lost the container", RetryCause.NODE_LOST
    if pod["metadata"].get("deletionTimestamp") and (result is None or _is_stopped(result)):
        return (
            Reason.POD_DELETED,
            f"Pod {pod['metadata']['name']} was deleted while it was running",
            RetryCause.POD_DELETED,
        )
    if result is not None and result.failure is not None:
        failure = result.failure
        return failure.reason, _sentences(failure.message, failure.hint), None
    words = terminated.get("message") or words
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        return Reason.POD_REJECTED, f"cannot start the executor: {words[:500]}", None
    code = terminated.get("exitCode")
    if code == _SIGKILL:
        # PID 1 cannot be killed from within its container, and an executor that exits by itself writes a result.
        return Reason.NODE_OUT_OF_MEMORY, _KILLED_FROM_OUTSIDE, RetryCause.NODE_OUT_OF_MEMORY
    ended = f"with exit code {code}" if code is not None else "with an unknown exit code"
    detail = f": {words[:500]}" if words else "; see its log"
    return Reason.INTERNAL_ERROR, f"executor exited {ended} and without a result{detail}", None


def _disruption(status: Mapping[str, Any]) -> tuple[str, str, RetryCause] | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            default = (Reason.POD_EVICTED, RetryCause.EVICTED)
            reason, retry = _DISRUPTIONS.get(condition.get("reason", ""), default)
            words = condition.get("message") or status.get("message")
            return reason, words or f"Pod was disrupted: {condition.get('reason')}", retry
    return None


def _sentences(message: str, hint: str) -> str:
    """Message and hint as running text: a hint is a sentence, a message has no full stop."""
    if not hint:
        return message
    return f"{message}{'' if message.endswith(('.', '!', '?', ':')) else '.'} {hint}"


def _is_stopped(result: BuildResult) -> bool:
    return result.failure is not None and result.failure.reason == Reason.CANCELLED


def _killed_for_memory(
    spec: Mapping[str, Any], terminated: Mapping[str, Any], result: BuildResult | None
) -> tuple[str, str, RetryCause | None] | None:
    """Whether the container or the node ran out of memory.

    The kubelet's OOMKilled does not tell: runtimes count every kill by the kernel, whether for the container's limit or
    for one above it, up to the node's memory; with cgroup v1 containerd reports it even for the victim's neighbour
    containers. A container without a limit cannot have reached it; an executor that survived the kill knows how much
    memory was used. If an executor with a limit was killed itself, it is unknown: it counts as the container's limit,
    since a build that needs more than its limit would fail again and again.
    """
    told = result.failure if result is not None else None
    if told is not None and told.reason == Reason.NODE_OUT_OF_MEMORY:
        return told.reason, _sentences(told.message, told.hint), RetryCause.NODE_OUT_OF_MEMORY
    if told is not None and told.reason != Reason.OUT_OF_MEMORY and not _may_be_kill(told):
        return None
    if terminated.get("reason") != "OOMKilled" and (told is None or told.reason != Reason.OUT_OF_MEMORY):
        return None
    limit = _memory_limit(spec)
    if not limit:
        return Reason.NODE_OUT_OF_MEMORY, _NO_LIMIT, RetryCause.NODE_OUT_OF_MEMORY
    words = f"the build ran out of memory at its limit of {limit}: raise spec.podTemplate.resources.limits.memory"
    if told is None:
        words += ", or requests.memory if the build needs less: then the node ran out of memory"
    return Reason.OUT_OF_MEMORY, words, None


def _may_be_kill(told: Failure) -> bool:
    """Whether an executor without access to the kernel's counters reports a killed child process like this."""
    return told.exit_code == _SIGKILL or told.reason in _REASONS_OF_KILLED_CHILD


def _memory_limit(spec: Mapping[str, Any]) -> str:
    """The executor's memory limit (perhaps a LimitRange's default), else that of the whole Pod; "" for none."""
    limits = [(one.get("resources") or {}).get("limits") or {} for one in (_executor(spec.get("containers")), spec)]
    return next((str(limit["memory"]) for limit in limits if limit.get("memory")), "")


def _why_waiting(
    pod: PodJson, waiting: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> tuple[str, str, bool]:
    """Reason, message, and whether it starts as soon as something exists. Empty: nothing is known to be wrong."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Reason.UNSCHEDULABLE, condition.get("message") or "no node can run the Pod", False
    why, words = waiting.get("reason") or "", waiting.get("message") or ""
    if why in _IMAGE_PULL:
        return Reason.IMAGE_PULL_FAILED, f"cannot pull the executor image: {words or why}", False
    if why == "CreateContainerConfigError":
        return _missing(words) or (Reason.POD_REJECTED, words, False)
    if why in ("CreateContainerError", "RunContainerError"):
        return Reason.POD_REJECTED, f"cannot start the executor: {words or why}", False
    for event in sorted(events, key=_event_time, reverse=True):
        words = _mount_failure(pod, event.get("message") or "")
        if event.get("reason") in _MOUNT_EVENTS:
            return _missing(words) or (Reason.VOLUME_PENDING, words, False)
        if event.get("reason") == "FailedCreatePodSandBox":
            return Reason.POD_REJECTED, f"cannot start the Pod: {words}", False
    return "", "", False


def _missing(words: str) -> tuple[str, str, bool] | None:
    if _NO_SECRET.search(words):
        return Reason.SECRET_NOT_FOUND, f"{words}: the build starts as soon as it exists", True
    if _NO_CONFIG_MAP.search(words):
        return Reason.CONFIG_MAP_NOT_FOUND, f"{words}: the build starts as soon as it exists", True
    return None


def _mount_failure(pod: PodJson, message: str) -> str:
    """The kubelet's message about a volume, with the name of the Secret or ConfigMap that lacks a key."""
    failed = _MOUNT_PREFIX.match(message)
    if failed is None:
        return message
    words = message[failed.end() :]
    lacking = _NO_KEY.search(words)
    if lacking is None:
        return words
    kind = "secret" if lacking[1].lower() == "secret" else "configMap"
    volumes = (pod.get("spec") or {}).get("volumes") or []
    volume: Mapping[str, Any] = next((one for one in volumes if one.get("name") == failed[1]), {})
    names = _names_with_key(volume, kind, lacking[2])
    return f'{kind.lower()} "{names[0]}": {words}' if len(names) == 1 else words


def _names_with_key(volume: Mapping[str, Any], kind: str, key: str) -> list[str]:
    """The names of the Secrets or ConfigMaps from which this volume takes this key, each once."""
    sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
    wanted = [source[kind] for source in sources if source.get(kind)]
    names = [
        one.get("secretName") or one.get("name") or ""
        for one in wanted
        if any(item.get("key") == key for item in one.get("items") or [])
    ]
    return list(dict.fromkeys(names))


def _event_time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")


def _last_change(status: Mapping[str, Any]) -> str:
    return max((one.get("lastTransitionTime") or "" for one in status.get("conditions") or []), default="")
