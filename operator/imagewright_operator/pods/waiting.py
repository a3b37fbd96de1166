"""Why an executor Pod waits, by its conditions, the states of its containers and its Events. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from imagewright.errors import Reason
from imagewright_operator.pods.states import EXECUTOR, RUNNER, missing_object, why_not_started

_MOUNT_EVENTS = ("FailedMount", "FailedAttachVolume", "FailedMapVolume")
# The kubelet's prefix of the sentence that a user can act on.
_MOUNT_PREFIX = re.compile(r'^MountVolume\.SetUp failed for volume "([^"]*)" *: *(?:rpc error: .*?desc = )?')
# The kubelet's only message that does not name the object: the volume does.
_NO_KEY = re.compile(r"references non-existent (secret|config(?: ?map)?) key: *(\S+)", re.I)


def why_waiting(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> tuple[str, str, bool]:
    """Reason, message, and whether it starts as soon as something exists. Empty: nothing is known to be wrong."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return Reason.UNSCHEDULABLE, condition.get("message") or "no node can run the Pod", False
    for name in (EXECUTOR, RUNNER):
        found = why_not_started(pod, name)
        if found is not None:
            return found
    for event in sorted(events, key=_event_time, reverse=True):
        words = _mount_failure(pod, event.get("message") or "")
        if event.get("reason") in _MOUNT_EVENTS:
            return missing_object(words) or (Reason.VOLUME_PENDING, words, False)
        if event.get("reason") == "FailedCreatePodSandBox":
            return Reason.POD_REJECTED, f"cannot start the Pod: {words}", False
    return "", "", False


def _mount_failure(pod: Mapping[str, Any], message: str) -> str:
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
