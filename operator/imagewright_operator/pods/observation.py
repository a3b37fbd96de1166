"""What a Pod's status and Events mean for its build, as an ``Observation``.

No I/O. Failures of the infrastructure are recognized by the Pod's DisruptionTarget condition first, then by reasons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from imagewright.contract import timestamp
from imagewright.contract.result import BuildResult
from imagewright.errors import Reason
from imagewright_operator.api.spec import RetryCause
from imagewright_operator.pods.disk import disk_full
from imagewright_operator.pods.fingerprint import destinations, fingerprint
from imagewright_operator.pods.memory import killed_for_memory, killed_from_outside, sentences
from imagewright_operator.pods.states import EXECUTOR, INPUTS_ANNOTATION, RUNNER, state_of, why_not_started
from imagewright_operator.pods.waiting import why_waiting

PodJson = Mapping[str, Any]


class PodState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Observation:
    """One Pod at one moment.

    ``signed``: the operator's signature fits the Pod, its ``inputs_hash`` and what it runs, the ``fingerprint``.
    ``destinations`` are those of its request. ``restarted``: a container was started again, as it is if its image is
    changed. ``reason`` and ``message`` tell why it waits or has failed; ``transient`` is set if it starts as soon as a
    missing object exists. ``retry`` is set for failures of the infrastructure. ``lingers`` is set if the executor has
    ended and another container has not. Times are RFC 3339, "" if unknown.
    """

    state: PodState
    name: str
    uid: str
    signed: bool = False
    inputs_hash: str = ""
    fingerprint: str = ""
    restarted: bool = False
    destinations: tuple[str, ...] = ()
    node: str = ""
    reason: str = ""
    message: str = ""
    transient: bool = False
    retry: RetryCause | None = None
    result: BuildResult | None = None
    exit_code: int | None = None
    lingers: bool = False
    created: str = ""
    started: str = ""
    finished: str = ""
    deleted: str = ""  # the end of its grace period, if it is being deleted

    @property
    def ended(self) -> bool:
        return self.state in (PodState.SUCCEEDED, PodState.FAILED)

    def is_live(self, now: datetime) -> bool:
        """Whether it may still run. One that still exists long after its deletion is on an unresponsive node."""
        gone_by = parse_time(self.deleted)
        return not self.ended and (gone_by is None or now - gone_by < LINGER)


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
LINGER = timedelta(seconds=60)  # a Pod that still exists so long after its grace period is on an unresponsive node
_NO_SANDBOX = (Reason.SANDBOX_UNAVAILABLE,)
_LINGER_S = 10
_LONGEST_GRACE_S = 3600  # of a Pod that a stranger made, it may be anything


def observe(
    pod: PodJson, now: datetime, events: Sequence[Mapping[str, Any]] = (), *, signed: bool = False, own: bool = True
) -> Observation:
    """Observe a Pod by its status, and by its Events if it waits. The executor alone decides when and how it ended.

    ``signed`` is what ``signature`` says about it. Of one that isn't the operator's ``own`` nothing is read but whether
    it may still run.
    """
    if not own:
        return _stranger(pod)
    metadata, status = pod["metadata"], pod.get("status") or {}
    state = state_of(pod, EXECUTOR)
    terminated: Mapping[str, Any] = state.get("terminated") or {}
    running: Mapping[str, Any] = state.get("running") or {}
    has_phase = status.get("phase") in ("Succeeded", "Failed")
    facts: dict[str, Any] = {
        "name": metadata["name"],
        "uid": metadata.get("uid", ""),
        "signed": signed,
        "inputs_hash": (metadata.get("annotations") or {}).get(INPUTS_ANNOTATION, ""),
        "fingerprint": fingerprint(pod),
        "restarted": any(_was_restarted(one) for one in _own(status)),
        "destinations": destinations(pod),
        "node": (pod.get("spec") or {}).get("nodeName") or "",
        "created": metadata.get("creationTimestamp") or "",
        "started": running.get("startedAt") or terminated.get("startedAt") or "",
        "finished": terminated.get("finishedAt") or "",
        "deleted": _end_of_grace(metadata),
        "exit_code": terminated.get("exitCode"),
        "lingers": bool(terminated) and not has_phase,
        "result": BuildResult.parse(terminated.get("message") or ""),
    }
    if has_phase or _is_overdue(pod, facts, now):
        return _ended(pod, terminated, facts)
    if running or terminated:  # terminated: the Pod's phase follows soon
        return _running(pod, facts)
    reason, message, transient = why_waiting(pod, events)
    return Observation(state=PodState.WAITING, reason=reason, message=message, transient=transient, **facts)


def _stranger(pod: PodJson) -> Observation:
    metadata, ended = pod["metadata"], (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return Observation(
        state=PodState.FAILED if ended else PodState.RUNNING,
        name=_text(metadata.get("name")),
        uid=_text(metadata.get("uid")),
        created=_text(metadata.get("creationTimestamp")),
        deleted=_text(_end_of_grace(metadata)),
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def parse_time(text: str) -> datetime | None:
    """Parse a time in RFC 3339, as the API server writes it; None if it is empty or invalid."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC) if text else None
    except (ValueError, OverflowError):  # a stranger may have asked for years that no calendar has
        return None


def _end_of_grace(metadata: Mapping[str, Any]) -> str:
    """When a Pod that is being deleted is gone, an hour after its deletion at the latest; "" if it is not deleted."""
    end, grace_s = metadata.get("deletionTimestamp") or "", metadata.get("deletionGracePeriodSeconds") or 0
    if not end or grace_s <= _LONGEST_GRACE_S:
        return end
    known = parse_time(end)
    try:
        began = known - timedelta(seconds=grace_s) if known is not None else None
    except OverflowError:  # in Go, where the end was computed from it, the number wraps around
        began = None
    if began is None:
        return metadata.get("creationTimestamp") or ""
    return timestamp(began + timedelta(seconds=_LONGEST_GRACE_S))


def _is_overdue(pod: PodJson, facts: Mapping[str, Any], now: datetime) -> bool:
    """Whether the Pod's phase no longer counts: the executor has ended, and another container still runs.

    A Pod that is stopped from outside says why in its phase only, and has its grace period for that.
    """
    finished, result = parse_time(facts["finished"]), facts["result"]
    if finished is None:
        return False
    patience_s = _LINGER_S
    if result is None or _is_stopped(result):
        patience_s += min((pod.get("spec") or {}).get("terminationGracePeriodSeconds") or 0, _LONGEST_GRACE_S)
    return now - finished >= timedelta(seconds=patience_s)


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
    if terminated.get("exitCode") == 0 or (not terminated and status.get("phase") == "Succeeded"):
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
    if why == "Evicted" and (full := disk_full(pod, words)):
        return Reason.DISK_FULL, full, None
    disruption = _disruption(status)
    if disruption is not None:
        return disruption
    if why in _POD_REASONS or why.startswith("OutOf"):
        reason, retry = _POD_REASONS.get(why, (Reason.POD_EVICTED, RetryCause.EVICTED))
        return reason, words or f"Pod ended: {why}", retry
    killed = killed_for_memory(pod, result)
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
        lost = _runner_lost(pod) if failure.reason in _NO_SANDBOX else None
        return lost or (failure.reason, sentences(failure.message, failure.hint), None)
    broken = why_not_started(pod, EXECUTOR)
    if broken is not None:
        return broken[0], broken[1], None
    outside = killed_from_outside(pod, EXECUTOR)  # an executor that exits by itself writes a result
    if outside is not None:
        return outside
    words, code = terminated.get("message") or words, terminated.get("exitCode")
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


def _runner_lost(pod: PodJson) -> tuple[str, str, RetryCause | None] | None:
    """What the executor cannot know of a runner that never came, or that is gone."""
    broken = why_not_started(pod, RUNNER)
    return (broken[0], broken[1], None) if broken is not None else killed_from_outside(pod, RUNNER)


def _is_stopped(result: BuildResult) -> bool:
    return result.failure is not None and result.failure.reason == Reason.CANCELLED


def _own(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The statuses of the operator's containers; webhooks may have added others, which may restart."""
    return (one for one in status.get("containerStatuses") or () if one.get("name") in (EXECUTOR, RUNNER))


def _was_restarted(container: Mapping[str, Any]) -> bool:
    """Whether a container was started again.

    The kubelet also counts one as restarted that it doesn't find any more, as when it evicts the Pod; with a policy of
    ``Never`` such a one isn't started again, and it has left no result.
    """
    state, count = container.get("state") or {}, container.get("restartCount") or 0
    before = (container.get("lastState") or {}).get("terminated") or {}
    started = state.get("running") or (state.get("terminated") or {}).get("reason") not in (None, *_CONTAINER_LOST)
    lost = not started and before.get("reason") in _CONTAINER_LOST
    return bool(count > (1 if lost else 0))


def _last_change(status: Mapping[str, Any]) -> str:
    return max((one.get("lastTransitionTime") or "" for one in status.get("conditions") or []), default="")
