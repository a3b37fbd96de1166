"""Polling a branch or tag: when a Pod asks the git server again, and what its answer means.

No I/O. For an ImageBuild with ``source.git.poll`` whose last build has finished. A Pod asks, so that the operator needs
no git credentials; its name follows from the status, as that of a build's Pod does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import parse_duration
from imagewright_operator.api.status import Build, PodIdentity, Poll, Status
from imagewright_operator.pods.manifests import poll_pod_name
from imagewright_operator.pods.observation import Observation, parse_time
from imagewright_operator.reconcile import trust
from imagewright_operator.status.records import clipped, second

_TIMEOUT = timedelta(minutes=5)  # for the Pod to start, ask and end
_CHECK_S = 5.0
_JITTER = 10  # percent of the interval, so that a thousand ImageBuilds do not ask at the same moment


@dataclass(frozen=True, slots=True)
class Polling:
    """The poll status to store, whether to create its Pod, and when to reconcile again."""

    status: Poll
    create: bool = False
    requeue_after_s: float = 0.0


def poll(imagebuild: ImageBuild, build: Build, poll_pods: Iterable[Observation], now: datetime) -> Polling | None:
    """The next step of polling after ``build``: wait, start a Pod, or take its answer; None if nothing is polled."""
    interval = _interval(imagebuild)
    if interval is None:
        return None
    before = imagebuild.status.poll or Poll()

    def seconds_until_next(known: Poll) -> float:
        return (_due(imagebuild.metadata.uid, build, known, interval) - now).total_seconds()

    if not before.pod_name:
        left = seconds_until_next(before)
        if left > 0:
            return Polling(before, requeue_after_s=left)
        number = before.number + 1
        name = poll_pod_name(imagebuild.metadata.name, imagebuild.metadata.uid, number)
        started = before.model_copy(update={"number": number, "pod_name": name, "start_time": second(now)})
        return Polling(started, create=True, requeue_after_s=_CHECK_S)
    pod = trust.poll_pod_of(before, poll_pods)
    if pod is not None and pod.ended:
        finished = _answered(before, pod, now)
        moved = finished.commit != before.commit  # the next pass starts a build
        return Polling(finished, requeue_after_s=0.2 if moved else seconds_until_next(finished))
    began = parse_time(before.start_time) or now
    if before.pod is not None and pod is None:  # another of its name would not be it: the next poll has another name
        finished = _finished(before, now, message=f"Pod {before.pod_name} was deleted or changed before it reported")
        return Polling(finished, requeue_after_s=seconds_until_next(finished))
    if now < began + _TIMEOUT:
        return Polling(before, create=pod is None, requeue_after_s=_CHECK_S)
    default = f"Pod {before.pod_name} did not report a commit within 5 minutes"
    message = pod.message if pod is not None and pod.message else default
    finished = _finished(before, now, message=clipped(message))
    return Polling(finished, requeue_after_s=seconds_until_next(finished))


def paused(imagebuild: ImageBuild) -> Poll | None:
    """The poll status while no Pod asks; None once polling is turned off."""
    known = imagebuild.status.poll
    if known is None or _interval(imagebuild) is None:
        return None
    return known.model_copy(update={"pod_name": "", "pod": None, "start_time": ""})


def started(status: Status, pod: Observation) -> Status:
    """The status after the Pod that asks was created."""
    assert status.poll is not None, "the poll was recorded"
    identity = PodIdentity(uid=pod.uid, fingerprint=pod.fingerprint)
    return status.model_copy(update={"poll": status.poll.model_copy(update={"pod": identity})})


def not_started(status: Status, message: str, now: datetime) -> Status:
    """The status after the Pod that was to ask could not be created."""
    assert status.poll is not None, "the poll was recorded"
    return status.model_copy(update={"poll": _finished(status.poll, now, message=clipped(message))})


def new_commit(imagebuild: ImageBuild, build: Build) -> str:
    """The commit that needs a new build: seen after ``build`` was queued, and another than its; "" for none."""
    seen = imagebuild.status.poll
    if seen is None or not seen.commit or _interval(imagebuild) is None:
        return ""
    queued, looked = parse_time(build.queue_time), parse_time(seen.seen_time)
    if queued is None or looked is None or looked <= queued:
        return ""
    known = build.source.commit if build.source and build.source.commit else build.polled_commit
    return "" if seen.commit == known else seen.commit


def _interval(imagebuild: ImageBuild) -> timedelta | None:
    """How often the branch or tag is polled, None for never."""
    git = imagebuild.spec.source.git
    return parse_duration(git.poll) if git is not None and git.poll is not None else None


def _due(uid: str, build: Build, status: Poll, interval: timedelta) -> datetime:
    """The interval, and up to a tenth of it more, after the last poll or the end of the last build."""
    times = [parse_time(text) for text in (status.check_time, build.completion_time, build.queue_time)]
    start = max(time for time in times if time is not None)
    seed = hashlib.sha256(f"{uid} {status.number}".encode()).digest()[0]
    return start + interval * (1 + _JITTER / 100 * seed / 256)


def _answered(before: Poll, pod: Observation, now: datetime) -> Poll:
    result = pod.result
    if result is not None and result.source.commit and result.failure is None:
        return _finished(before, now, commit=result.source.commit)
    return _finished(before, now, message=clipped(pod.message or f"Pod {pod.name} ended without reporting a commit"))


def _finished(before: Poll, now: datetime, commit: str = "", message: str = "") -> Poll:
    """Without a commit, the one that was seen last stays, and its time."""
    seen = {"commit": commit, "seen_time": second(now)} if commit else {}
    update = {"check_time": second(now), "message": message, "pod_name": "", "pod": None, "start_time": ""}
    return before.model_copy(update={**update, **seen})
