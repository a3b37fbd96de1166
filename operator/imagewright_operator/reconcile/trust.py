"""Which Pods are believed. No I/O.

Anybody who may create Pods in a namespace can make one with the name, the labels and the owner reference of a build's
Pod, and let it report any image. So the status holds the UID of the Pod that the operator has created, and no other one
counts. Where the operator was stopped between the two, the Pod's signature tells that it is the operator's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from imagewright.contract.result import BuildResult
from imagewright.digest import Digest
from imagewright.errors import ImagewrightError
from imagewright.reference import Reference
from imagewright_operator.api.status import Build, PodIdentity, Poll, Status
from imagewright_operator.pods import logtail
from imagewright_operator.pods.fingerprint import is_comparable
from imagewright_operator.pods.manifests import pod_name
from imagewright_operator.pods.observation import Observation, PodState, parse_time

_PATIENCE_WITH_UNNAMED = timedelta(minutes=5)


def pod_of(imagebuild_name: str, build: Build, pods: Iterable[Observation]) -> Observation | None:
    """The Pod of the current attempt, if it exists."""
    if build.pod is not None:
        return next((pod for pod in pods if pod.uid == build.pod.uid), None)
    if build.pod_names:  # recorded by a release that neither signed Pods nor stored UIDs
        return next((pod for pod in pods if pod.name in build.pod_names), None)
    name = pod_name(imagebuild_name, build)
    signed = (pod for pod in pods if pod.name == name and pod.signed)
    return next((pod for pod in signed if pod.inputs_hash == build.inputs_hash), None)


def poll_pod_of(poll: Poll, pods: Iterable[Observation]) -> Observation | None:
    """The Pod of the current poll, if it exists and is as it was created."""
    found = (pod for pod in pods if pod.name == poll.pod_name)
    if poll.pod is None:
        return next((pod for pod in found if pod.signed), None)
    return next((pod for pod in found if pod.uid == poll.pod.uid and _is_as_created(poll.pod, pod)), None)


def named(build: Build | None) -> frozenset[str]:
    """The UIDs of the Pods that the record of a build names."""
    if build is None:
        return frozenset()
    current = [build.pod] if build.pod is not None else []
    return frozenset(pod.uid for pod in (*current, *build.earlier_pods, *build.previous_pods))


def named_in(status: Mapping[str, Any]) -> frozenset[str]:
    """The same of a status as it is stored, however old or new."""
    try:
        build = status.get("build") or {}
        names = [build.get("pod") or {}, *(build.get("earlierPods") or ()), *(build.get("previousPods") or ())]
        return frozenset(str(one["uid"]) for one in names if one.get("uid"))
    except (AttributeError, TypeError):  # another version's
        return frozenset()


def is_named(status: Status, uid: str, name: str) -> bool:
    """Whether the status names this Pod: by its UID, or as a release before signatures did, by its name."""
    build, poll = status.build, status.poll
    if uid in named(build) or (poll is not None and poll.pod is not None and poll.pod.uid == uid):
        return True
    return build is not None and build.pod is None and name in build.pod_names


def counted(imagebuild_name: str, status: Status, pods: Iterable[Observation]) -> list[Observation]:
    """The Pods that count for the limits: those that the status names, and the one that it is about to name.

    Not by their signatures: copies of ended Pods have them, and with another key no running Pod has.
    """
    build, pods, names = status.build, list(pods), named(status.build)
    current = pod_of(imagebuild_name, build, pods) if build is not None and not build.outcome else None
    return [pod for pod in pods if pod is current or pod.uid in names]


def still_running(build: Build, pods: Iterable[Observation], now: datetime) -> list[Observation]:
    """Earlier Pods for whose end the build has to wait: those that the status names.

    A signed one that it doesn't name is that of an operator which was stopped, or a copy of one: it was deleted when it
    was seen, and is waited for only a few minutes of each build.
    """
    names = named(build)
    patient = now - (parse_time(build.queue_time) or now) < _PATIENCE_WITH_UNNAMED
    return [pod for pod in pods if pod.is_live(now) and (pod.uid in names or (pod.signed and patient))]


def pushed_before(build: Build, pods: Iterable[Observation]) -> Observation | None:
    """An earlier attempt that was given up but pushed after all: its result arrived late."""
    earlier = {pod.uid for pod in build.earlier_pods}
    pushed = (pod for pod in pods if pod.state is PodState.SUCCEEDED and pod.result is not None)
    return next((pod for pod in pushed if pod.uid in earlier), None)


def tampering(build: Build, seen: Observation) -> str:
    """How the Pod of ``build`` was changed since it was created, "" if it was not."""
    if build.pod is None:
        return ""
    if not _is_as_created(build.pod, seen):
        return "its image, command or request was changed after it was created"
    return "a container was restarted, as happens when its image is changed" if seen.restarted else ""


def _is_as_created(recorded: PodIdentity, seen: Observation) -> bool:
    """Whether a Pod runs what it was created with, as far as this version can compare."""
    return not is_comparable(recorded.fingerprint) or recorded.fingerprint == seen.fingerprint


def result_of(seen: Observation, log: bytes) -> BuildResult | None:
    """The result of the termination message, or that of the log, which is not truncated.

    The log is trusted only if the container exited with 0: any RUN can print such a line.
    """
    whole = logtail.result(log) if seen.state is PodState.SUCCEEDED else None
    if whole is None or (seen.result is not None and whole.digest != seen.result.digest):
        return seen.result
    return whole


def misreport(seen: Observation, result: BuildResult) -> str:
    """What the Pod reports to have pushed although it was not told to, "" if there is no such thing."""
    try:
        digest = Digest.parse(result.digest)
        told = {Reference.parse(text).with_digest(digest) for text in seen.destinations}
        other = [text for text in result.references if Reference.parse(text) not in told]
    except ImagewrightError as error:
        return error.message
    if other:
        return f'image "{other[0]}", which it was not told to push'
    return "" if result.references else "a digest without an image"
