"""Build records: whether a build is due, those of new builds and of attempts, and which finished Pods expire.

No I/O. A build is recorded in the status, under a resource version, before anything is done for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagewright.contract import timestamp
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build, PodIdentity
from imagewright_operator.pods.manifests import pod_name
from imagewright_operator.pods.observation import Observation, parse_time
from imagewright_operator.reconcile import polling
from imagewright_operator.reconcile.inputs import Inputs, build_id
from imagewright_operator.reconcile.limiter import ObjectKey, PodKey, QueuedBuild

_MAX_EARLIER_PODS = 20  # in the status: one that is older has long ended
_LINGERING_TTL = timedelta(minutes=1)


def is_due(imagebuild: ImageBuild, inputs: Inputs, build: Build) -> bool:
    """Whether there is something to build after ``build``, which has finished."""
    if not inputs.is_of(build) or polling.new_commit(imagebuild, build):
        return True
    if build.outcome == "Failed":  # a field that may have caused the failure was edited
        return build.environment_hash != inputs.environment_hash
    return build.outcome in ("Cancelled", "Replaced")


def new_build(
    imagebuild: ImageBuild, inputs: Inputs, last: Build | None, now: datetime, running: Iterable[Observation] = ()
) -> Build:
    """The record of the next build of an ImageBuild; ``running`` are Pods of the last that may still run."""
    number = last.number + 1 if last is not None else 1
    return Build(
        id=build_id(imagebuild.metadata.uid, inputs, number),
        number=number,
        inputs_hash=inputs.inputs_hash,
        environment_hash=inputs.environment_hash,
        requested_at=inputs.requested_at,
        polled_commit=polling.new_commit(imagebuild, last) if last is not None else "",
        previous_pods=[PodIdentity(uid=pod.uid) for pod in running],
        queue_time=timestamp(now),
    )


def next_attempt(build: Build, not_before: datetime) -> Build:
    """The record of another attempt of the same build."""
    return Build(
        id=build.id,
        number=build.number,
        inputs_hash=build.inputs_hash,
        environment_hash=build.environment_hash,
        requested_at=build.requested_at,
        polled_commit=build.polled_commit,
        attempt=build.attempt + 1,
        earlier_pods=_with_current(build),
        queue_time=build.queue_time,
        not_before=timestamp(not_before),
    )


def without_pod(build: Build, not_before: datetime) -> Build:
    """The record of the same attempt after its Pod, which never ran; the next one has another name."""
    update = {
        "releases": (build.releases or 0) + 1,
        "earlier_pods": _with_current(build),
        "not_before": timestamp(not_before),
        **{"pod": None, "pod_names": [], "node_name": "", "completion_time": ""},
    }
    return build.model_copy(update=update)


def _with_current(build: Build) -> list[PodIdentity]:
    return [*build.earlier_pods, *([build.pod] if build.pod is not None else [])][-_MAX_EARLIER_PODS:]


def queued_build(imagebuild: ImageBuild, build: Build) -> QueuedBuild:
    """The build as the concurrency limiter knows it."""
    metadata = imagebuild.metadata
    pod = PodKey(metadata.namespace, pod_name(metadata.name, build))
    return QueuedBuild(ObjectKey(metadata.namespace, metadata.name), pod, build.queue_time)


@dataclass(frozen=True, slots=True)
class PodCleanup:
    """``delete`` now; ``requeues_s`` are the seconds until the other Pods expire."""

    delete: tuple[Observation, ...]
    requeues_s: tuple[float, ...]


def expired_pods(pods: Iterable[Observation], current: str, ttl: timedelta, now: datetime) -> PodCleanup:
    """Of Pods that belong to no build in progress: those that still run, and those that ended at least ``ttl`` ago.

    One of which only the executor has ended is deleted earlier, since its other containers use the node. One that has
    the name of the ``current`` build's Pod is not the operator's, and left to its creator until it has ended.
    """
    delete, requeues_s = [], []
    for pod in pods:
        if pod.deleted or (pod.name == current and not pod.ended):
            continue
        ended = parse_time(pod.finished or pod.created)
        kept = min(ttl, _LINGERING_TTL) if pod.lingers else ttl
        waits = pod.ended and ended is not None and pod.name != current
        left = (ended - now + kept).total_seconds() if waits and ended is not None else 0.0
        if left <= 0:
            delete.append(pod)
        else:
            requeues_s.append(left)
    return PodCleanup(tuple(delete), tuple(requeues_s))
