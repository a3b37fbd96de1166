"""What a Pod says about its build: an Observation.

No I/O. Called by ``reconcile`` with the Pod as the API server gives it and, for one that doesn't start, its Events.
Failures of the infrastructure are recognised by the Pod's DisruptionTarget condition first, by lists of reasons second.
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

    ``reason`` and ``message`` say why it waits or has failed; ``transient`` that it waits for something that only has to
    appear, however long that takes. ``retry`` is set for failures of the infrastructure. Times are RFC 3339, "" unknown.
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
    deleted: str = ""  # when its grace period ends, if it is being deleted

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
# What the kubelet and containerd say of a container that was gone when they came back, after a reboot, say.
_FORGOTTEN = ("ContainerStatusUnknown", "Unknown")
_SIGKILL = 128 + 9
_OF_A_LOST_PROCESS = (Reason.SANDBOX_UNAVAILABLE, Reason.SOURCE_FETCH_FAILED, Reason.INTERNAL_ERROR)
_NO_LIMIT = (
    "the node ran out of memory, and the executor, which has no limit of its own, was killed for it: "
    "request what the build needs in spec.podTemplate.resources.requests.memory"
)
_KILLED_FROM_OUTSIDE = (
    "the executor was killed from outside its container (SIGKILL), as by a node that runs out of memory: "
    "request what the build needs in spec.podTemplate.resources.requests.memory"
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
# What the kubelet says before the sentence that a user can act on.
_MOUNT_PREFIX = re.compile(r'^MountVolume\.SetUp failed for volume "([^"]*)" *: *(?:rpc error: .*?desc = )?')
# The only sentence of the kubelet's that doesn't name the object: the volume does.
_NO_KEY = re.compile(r"references non-existent (secret|config(?: ?map)?) key: *(\S+)", re.I)


def observe(pod: PodJson, events: Sequence[Mapping[str, Any]] = ()) -> Observation:
    """What this Pod's status, and for one that waits its Events, mean."""
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
    if running or terminated:  # terminated: the Pod's phase follows within moments
        return _running(pod, facts)
    reason, message, transient = _why_waiting(pod, state.get("waiting") or {}, events)
    return Observation(state=PodState.WAITING, reason=reason, message=message, transient=transient, **facts)


def parse_time(text: str) -> datetime | None:
    """RFC 3339 as the API server writes it; None for none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except ValueError:
        return None


def _executor(containers: Sequence[Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """The executor's, of a Pod's containers or of what their statuses are: ours has one, webhooks may add others."""
    containers = containers or [{}]
    return next((one for one in containers if one.get("name") == "executor"), containers[0])


def _running(pod: PodJson, facts: dict[str, Any]) -> Observation:
    """Of one that is being deleted it says why: when its node no longer answers, nobody else will."""
    if not facts["deleted"]:
        return Observation(state=PodState.RUNNING, **facts)
    reason, message, retry = _disruption(pod.get("status") or {}) or (
        Reason.POD_DELETED,
        f"Pod {facts['name']} was deleted while it ran",
        RetryCause.POD_DELETED,
    )
    return Observation(state=PodState.RUNNING, reason=reason, message=message, retry=retry, **facts)


def _ended(pod: PodJson, terminated: Mapping[str, Any], facts: dict[str, Any]) -> Observation:
    result: BuildResult | None = facts["result"]
    status = pod.get("status") or {}
    if not facts["finished"]:
        facts["finished"] = _last_change(status) or facts["deleted"]
    if result is not None and result.failure is None and result.digest:
        return Observation(state=PodState.SUCCEEDED, **facts)  # pushed, whatever happened to the Pod afterwards
    if status.get("phase") == "Succeeded":
        return Observation(state=PodState.SUCCEEDED, **facts)  # its report may still be the last line of its log
    reason, message, retry = _why_failed(pod, terminated, result)
    return Observation(state=PodState.FAILED, reason=reason, message=message, retry=retry, **facts)


def _why_failed(
    pod: PodJson, terminated: Mapping[str, Any], result: BuildResult | None
) -> tuple[str, str, RetryCause | None]:
    """Reason, message and, for a failure of the infrastructure, what a retry is for. A disruption goes before what the
    executor says: it reports a RUN that the kubelet has killed as a failed RUN."""
    status = pod.get("status") or {}
    why, words = status.get("reason") or "", status.get("message") or ""
    if why == "DeadlineExceeded":
        return Reason.TIMEOUT, "the build took longer than spec.timeout", None
    if why == "Evicted" and _DISK_FULL.search(words):
        return Reason.DISK_FULL, f"{words.rstrip('. ')}: the build needs more disk than the executor may use", None
    disruption = _disruption(status)
    if disruption is not None:
        return disruption
    if why in _POD_REASONS or why.startswith("OutOf"):
        reason, retry = _POD_REASONS.get(why, (Reason.POD_EVICTED, RetryCause.EVICTED))
        return reason, words or f"the Pod ended: {why}", retry
    killed = _killed_for_memory(pod.get("spec") or {}, terminated, result)
    if killed is not None:
        return killed
    if terminated.get("reason") in _FORGOTTEN:
        return Reason.NODE_LOST, terminated.get("message") or "the node lost the container", RetryCause.NODE_LOST
    if pod["metadata"].get("deletionTimestamp") and (result is None or _is_stopped(result)):
        return Reason.POD_DELETED, f"Pod {pod['metadata']['name']} was deleted while it ran", RetryCause.POD_DELETED
    if result is not None and result.failure is not None:
        failure = result.failure
        return failure.reason, _sentences(failure.message, failure.hint), None
    words = terminated.get("message") or words
    if terminated.get("reason") in ("StartError", "ContainerCannotRun"):
        return Reason.POD_REJECTED, f"the executor could not be started: {words[:500]}", None
    code = terminated.get("exitCode")
    if code == _SIGKILL:
        # The first process of a container can't be killed from within, and an executor that ends by itself reports.
        return Reason.NODE_OUT_OF_MEMORY, _KILLED_FROM_OUTSIDE, RetryCause.NODE_OUT_OF_MEMORY
    ended = f"with exit code {code}" if code is not None else "without a status"
    detail = f": {words[:500]}" if words else "; its log may say more"
    return Reason.INTERNAL_ERROR, f"the executor ended {ended} and without a report{detail}", None


def _disruption(status: Mapping[str, Any]) -> tuple[str, str, RetryCause] | None:
    for condition in status.get("conditions") or []:
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            default = (Reason.POD_EVICTED, RetryCause.EVICTED)
            reason, retry = _DISRUPTIONS.get(condition.get("reason", ""), default)
            words = condition.get("message") or status.get("message")
            return reason, words or f"the Pod was disrupted: {condition.get('reason')}", retry
    return None


def _sentences(message: str, hint: str) -> str:
    """Both as running text: a hint is a sentence, a message often lacks its full stop."""
    if not hint:
        return message
    return f"{message}{'' if message.endswith(('.', '!', '?', ':')) else '.'} {hint}"


def _is_stopped(result: BuildResult) -> bool:
    return result.failure is not None and result.failure.reason == Reason.CANCELLED


def _killed_for_memory(
    spec: Mapping[str, Any], terminated: Mapping[str, Any], result: BuildResult | None
) -> tuple[str, str, RetryCause | None] | None:
    """Whose memory it was that ran out.

    The kubelet's OOMKilled doesn't say: runtimes count every kill of the kernel's, whether it was for the container's
    limit or for one above it, the node's memory at last; with cgroup v1 containerd says it even of those beside the
    victim. A container without a limit can't have reached it; an executor that has outlived the kill knows how much it
    had used. Of one with a limit that was killed itself nobody can tell: it counts as the limit's, since a build that
    needs more than it may have would fail again and again.
    """
    told = result.failure if result is not None else None
    if told is not None and told.reason == Reason.NODE_OUT_OF_MEMORY:
        return told.reason, _sentences(told.message, told.hint), RetryCause.NODE_OUT_OF_MEMORY
    if told is not None and told.reason != Reason.OUT_OF_MEMORY and not _may_be_a_kills(told):
        return None
    if terminated.get("reason") != "OOMKilled" and (told is None or told.reason != Reason.OUT_OF_MEMORY):
        return None
    limit = _memory_limit(spec)
    if not limit:
        return Reason.NODE_OUT_OF_MEMORY, _NO_LIMIT, RetryCause.NODE_OUT_OF_MEMORY
    words = f"the build ran out of memory at its limit of {limit}: raise spec.podTemplate.resources.limits.memory"
    if told is None:
        words += ", or requests.memory if it needs less than that: then it was the node's that ran out"
    return Reason.OUT_OF_MEMORY, words, None


def _may_be_a_kills(told: Failure) -> bool:
    """Whether an executor that couldn't see the kernel's counts would report a killed process of its own like this."""
    return told.exit_code == _SIGKILL or told.reason in _OF_A_LOST_PROCESS


def _memory_limit(spec: Mapping[str, Any]) -> str:
    """The executor's, with a LimitRange's default as the API server has put it there; else the whole Pod's."""
    limits = [(one.get("resources") or {}).get("limits") or {} for one in (_executor(spec.get("containers")), spec)]
    return next((str(limit["memory"]) for limit in limits if limit.get("memory")), "")


def _why_waiting(
    pod: PodJson, waiting: Mapping[str, Any], events: Sequence[Mapping[str, Any]]
) -> tuple[str, str, bool]:
    """Reason, message, and whether it transient by something appearing. Empty: nothing is wrong as far as is known."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Reason.UNSCHEDULABLE, condition.get("message") or "no node can run the Pod", False
    why, words = waiting.get("reason") or "", waiting.get("message") or ""
    if why in _IMAGE_PULL:
        return Reason.IMAGE_PULL_FAILED, f"the executor's image can't be pulled: {words or why}", False
    if why == "CreateContainerConfigError":
        return _missing(words) or (Reason.POD_REJECTED, words, False)
    if why in ("CreateContainerError", "RunContainerError"):
        return Reason.POD_REJECTED, f"the node can't start the executor: {words or why}", False
    for event in sorted(events, key=_event_time, reverse=True):
        words = _mount_failure(pod, event.get("message") or "")
        if event.get("reason") in _MOUNT_EVENTS:
            return _missing(words) or (Reason.VOLUME_PENDING, words, False)
        if event.get("reason") == "FailedCreatePodSandBox":
            return Reason.POD_REJECTED, f"the node can't start the Pod: {words}", False
    return "", "", False


def _missing(words: str) -> tuple[str, str, bool] | None:
    if _NO_SECRET.search(words):
        return Reason.SECRET_NOT_FOUND, f"{words}: the build starts when it is there", True
    if _NO_CONFIG_MAP.search(words):
        return Reason.CONFIG_MAP_NOT_FOUND, f"{words}: the build starts when it is there", True
    return None


def _mount_failure(pod: PodJson, message: str) -> str:
    """What the kubelet says of a volume, with the name of the Secret or ConfigMap that lacks a key."""
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
    """Of the Secrets or ConfigMaps of which this volume wants this key, each once."""
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
