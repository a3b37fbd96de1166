"""Watching a branch: when a probe of its own asks the git server again, and what its answer means.

No I/O. Called by ``reconcile`` for an ImageBuild with ``source.git.poll`` whose last build is over. The probe is a Pod, so
that the operator needs no git login; its name follows from what the status says, as that of a build's Pod does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import parse_duration
from imagewright_operator.api.status import Build, Poll, Status
from imagewright_operator.pods.manifests import probe_name
from imagewright_operator.pods.observation import Observation, parse_time
from imagewright_operator.status.records import clipped, second

_PATIENCE = timedelta(minutes=5)  # for a probe to start, ask and end
_LOOK_AFTER_S = 5.0
_JITTER = 10  # per cent of the interval, so that a thousand ImageBuilds don't ask at the same moment


@dataclass(frozen=True, slots=True)
class Polling:
    """``status`` is what to store, ``create`` whether its Pod is to be created; ``wake_s`` is when to look again."""

    status: Poll
    create: bool = False
    wake_s: float = 0.0


def poll(imagebuild: ImageBuild, build: Build, probes: Iterable[Observation], now: datetime) -> Polling | None:
    """The next step of watching, after ``build``: wait, start a probe, or take what it has found; None where nothing is
    watched."""
    interval = _interval(imagebuild)
    if interval is None:
        return None
    before = imagebuild.status.poll or Poll()

    def seconds_until_next(known: Poll) -> float:
        return (_due(imagebuild.metadata.uid, build, known, interval) - now).total_seconds()

    if not before.pod_name:
        left = seconds_until_next(before)
        if left > 0:
            return Polling(before, wake_s=left)
        number = before.number + 1
        name = probe_name(imagebuild.metadata.name, imagebuild.metadata.uid, number)
        started = before.model_copy(update={"number": number, "pod_name": name, "start_time": second(now)})
        return Polling(started, create=True, wake_s=_LOOK_AFTER_S)
    pod = next((one for one in probes if one.name == before.pod_name), None)
    if pod is not None and pod.ended:
        over = _answered(before, pod, now)
        news = over.commit != before.commit  # looked at by the next pass
        return Polling(over, wake_s=0.2 if news else seconds_until_next(over))
    began = parse_time(before.start_time) or now
    if now < began + _PATIENCE:
        return Polling(before, create=pod is None, wake_s=_LOOK_AFTER_S)
    why = pod.message if pod is not None and pod.message else "the probe did not end within five minutes"
    over = _over(before, now, message=clipped(why))
    return Polling(over, wake_s=seconds_until_next(over))


def stopped(imagebuild: ImageBuild) -> Poll | None:
    """What stays known while nothing is watched: nothing, if nothing is to be watched any more."""
    known = imagebuild.status.poll
    if known is None or _interval(imagebuild) is None:
        return None
    return known.model_copy(update={"pod_name": "", "start_time": ""})


def refused(status: Status, why: str, now: datetime) -> Status:
    """The status of a look that is over, since its Pod was not taken."""
    assert status.poll is not None, "there is a look"
    return status.model_copy(update={"poll": _over(status.poll, now, message=clipped(why))})


def moved(imagebuild: ImageBuild, build: Build) -> str:
    """The commit that a new build is due for, "" for none: one that was seen after ``build`` was asked for, and isn't its."""
    seen = imagebuild.status.poll
    if seen is None or not seen.commit or _interval(imagebuild) is None:
        return ""
    queued, looked = parse_time(build.queue_time), parse_time(seen.seen_time)
    if queued is None or looked is None or looked <= queued:
        return ""
    known = build.source.commit if build.source and build.source.commit else build.polled_commit
    return "" if seen.commit == known else seen.commit


def _interval(imagebuild: ImageBuild) -> timedelta | None:
    """How often the branch or tag is looked at, None for never."""
    git = imagebuild.spec.source.git
    return parse_duration(git.poll) if git is not None and git.poll is not None else None


def _due(uid: str, build: Build, status: Poll, interval: timedelta) -> datetime:
    """After the last look, or the last build's end, by the interval and up to a tenth of it more."""
    times = [parse_time(text) for text in (status.check_time, build.completion_time, build.queue_time)]
    start = max(time for time in times if time is not None)
    seed = hashlib.sha256(f"{uid} {status.number}".encode()).digest()[0]
    return start + interval * (1 + _JITTER / 100 * seed / 256)


def _answered(before: Poll, pod: Observation, now: datetime) -> Poll:
    result = pod.result
    if result is not None and result.source.commit and result.failure is None:
        return _over(before, now, commit=result.source.commit)
    return _over(before, now, message=clipped(pod.message or "the probe ended without an answer"))


def _over(before: Poll, now: datetime, commit: str = "", message: str = "") -> Poll:
    """Where nothing was found out, the commit that was seen last stays, and when."""
    seen = {"commit": commit, "seen_time": second(now)} if commit else {}
    over = {"check_time": second(now), "message": message, "pod_name": "", "start_time": ""}
    return before.model_copy(update={**over, **seen})
