"""The records that builds begin with: whether one is due, a new build's, and that of another attempt.

No I/O. Called by ``reconcile``. What is claimed is stored before anything is done for it, under a resource version.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagewright.contract import timestamp
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import pod_name
from imagewright_operator.pods.observation import Observation, parse_time
from imagewright_operator.reconcile import polling
from imagewright_operator.reconcile.inputs import Inputs, build_id
from imagewright_operator.reconcile.limiter import Claim, Key, PodKey


def is_due(imagebuild: ImageBuild, inputs: Inputs, build: Build) -> bool:
    """Whether there is something to build, after ``build``, which is over."""
    if not inputs.is_of(build) or polling.moved(imagebuild, build):
        return True
    if build.outcome == "Failed":  # what could have been the cause was edited
        return build.environment_hash != inputs.environment_hash
    return build.outcome in ("Cancelled", "Replaced")


def new(imagebuild: ImageBuild, inputs: Inputs, last: Build | None, now: datetime) -> Build:
    """The next build of an ImageBuild."""
    number = last.number + 1 if last is not None else 1
    return Build(
        id=build_id(imagebuild.metadata.uid, inputs, number),
        number=number,
        inputs_hash=inputs.inputs_hash,
        environment_hash=inputs.environment_hash,
        requested_at=inputs.requested_at,
        polled_commit=polling.moved(imagebuild, last) if last is not None else "",
        queue_time=timestamp(now),
    )


def again(build: Build, not_before: datetime) -> Build:
    """Another attempt of the same build."""
    return Build(
        id=build.id,
        number=build.number,
        inputs_hash=build.inputs_hash,
        environment_hash=build.environment_hash,
        requested_at=build.requested_at,
        polled_commit=build.polled_commit,
        attempt=build.attempt + 1,
        queue_time=build.queue_time,
        not_before=timestamp(not_before),
    )


def slot(imagebuild: ImageBuild, build: Build) -> Claim:
    """What a build that wants a Pod asks ``slots`` for."""
    metadata = imagebuild.metadata
    pod = PodKey(metadata.namespace, pod_name(metadata.name, build))
    return Claim(Key(metadata.namespace, metadata.name), pod, build.queue_time)


@dataclass(frozen=True, slots=True)
class Tidying:
    """``delete`` now; ``wakes`` are the seconds until the others' time has come."""

    delete: tuple[Observation, ...]
    wakes: tuple[float, ...]


def tidy(pods: Iterable[Observation], keep: timedelta, now: datetime) -> Tidying:
    """End what still runs, delete what ended ``keep`` ago. Each of ``pods`` is of a build that is over."""
    delete, wakes = [], []
    for pod in pods:
        if pod.deleted:
            continue
        ended = parse_time(pod.finished or pod.created)
        left = (ended + keep - now).total_seconds() if pod.ended and ended is not None else 0.0
        if left <= 0:
            delete.append(pod)
        else:
            wakes.append(left)
    return Tidying(tuple(delete), tuple(wakes))
