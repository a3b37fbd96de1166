"""Why an executor Pod waits, by its conditions, the states of its containers and its Events. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

from imagewright.errors import Reason
from imagewright_operator.pods.missing import missing_object, objects_of, volume_of
from imagewright_operator.pods.states import EXECUTOR, RUNNER, why_not_created, why_not_started

_Cause = tuple[str, str, bool]  # reason, message, and whether it starts as soon as something exists

_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
_AFTER_MOUNTS = ("FailedCreatePodSandBox", "Pulling", "Pulled", "Created", "Started")
# The kubelet's prefix of the sentence that a user can act on.
_MOUNT_PREFIX = re.compile(r'^MountVolume\.SetUp failed for volume "([^"]*)" *: *(?:rpc error: .*?desc = )?')
_PULL_PREFIX = re.compile(r'^Failed to pull image "[^"]*": *')
# The kubelet's words for having waited in vain, which don't say for what: an earlier Event may.
_VAGUE = re.compile(
    r"failed to sync (?:secret|configmap) cache|timed out waiting for the condition|context deadline exceeded"
    r'|Back-off pulling image "[^"]*"$'
)


def why_waiting(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> _Cause:
    """Reason, message, and whether it starts as soon as something exists. Empty: nothing is known to be wrong.

    The latest cause counts, unless its words are vague and those of an earlier one are not.
    """
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Reason.UNSCHEDULABLE, condition.get("message") or "no node can run the Pod", False
    events = sorted(events, key=_event_time, reverse=True)
    for name in (EXECUTOR, RUNNER):
        found = why_not_started(pod, name)
        if found is not None:  # then its volumes are mounted, whatever Events still say
            return _clearest(chain([found], _start_failures(pod, name, events)))
    return _clearest(_mount_failures(pod, events))


def _clearest(causes: Iterable[_Cause]) -> _Cause:
    """The first cause whose words are not vague, else the first."""
    known = list(causes)
    return next((cause for cause in known if not _VAGUE.search(cause[1])), known[0] if known else ("", "", False))


def _start_failures(pod: Mapping[str, Any], name: str, events: Iterable[Mapping[str, Any]]) -> Iterable[_Cause]:
    """What Events tell of a container that could not be started: after a while its state only says that it waits."""
    for event in events:
        place, words = (event.get("involvedObject") or {}).get("fieldPath"), event.get("message") or ""
        if event.get("reason") != "Failed" or place != f"spec.containers{{{name}}}":
            continue
        pulling = _PULL_PREFIX.match(words)
        if pulling is not None:
            yield why_not_created(pod, name, "ErrImagePull", words[pulling.end() :])
        elif (missing := missing_object(pod, words)) is not None:
            yield missing


def _mount_failures(pod: Mapping[str, Any], events: Iterable[Mapping[str, Any]]) -> Iterable[_Cause]:
    """What Events tell of a Pod whose volumes are not mounted or that has no sandbox, the latest first."""
    ready = (one for one in (pod.get("status") or {}).get("conditions") or () if one.get("status") == "True")
    mounted = any(one.get("type") == "PodReadyToStartContainers" for one in ready)
    for event in events:
        words = event.get("message") or ""
        if event.get("reason") in _MOUNT_EVENTS and not mounted:
            yield _mount_failure(pod, words)
        elif event.get("reason") in _AFTER_MOUNTS:
            mounted = True  # what follows the volumes has begun: failures to mount are history
        if event.get("reason") == "FailedCreatePodSandBox":
            yield Reason.POD_REJECTED, f"cannot start the Pod: {words}", False


def _mount_failure(pod: Mapping[str, Any], message: str) -> _Cause:
    failed = _MOUNT_PREFIX.match(message)
    volume, words = (failed[1], message[failed.end() :]) if failed is not None else ("", message)
    missing = missing_object(pod, words, volume)
    if missing is not None:
        return missing
    names = [f'{kind.lower()} "{name}"' for kind, name, _ in objects_of(volume_of(pod, volume))]
    return Reason.VOLUME_PENDING, f"cannot mount {', '.join(names)}: {words}" if names else words, False


def _event_time(event: Mapping[str, Any]) -> str:
    series = event.get("series") or {}
    return str(series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime") or "")
