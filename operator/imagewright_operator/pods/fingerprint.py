"""What an executor Pod runs, as a hash of the parts that decide it: image, command, request and the engine's files.

No I/O. Cluster components may add to a Pod when it is created (tokens, proxies, containers of a mesh). So only these
parts count: of both containers image, command and arguments, hooks and probes, the variables that only the operator
sets, and mounts at, in or above the engine's folders; of all containers the mounts of the operator's own volumes;
whether the Pod's containers share processes.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from imagewright.contract import REQUEST_ENV, TERMINATION_MESSAGE_PATH
from imagewright_operator.api.envrules import is_reserved
from imagewright_operator.api.volumerules import RESERVED_VOLUME_PREFIX, mount_path_problem
from imagewright_operator.pods.states import EXECUTOR, RUNNER, container_of

PodJson = Mapping[str, Any]

_VERSION = "v1"
_WHOLE = (
    "image", "command", "args", "workingDir", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe",
    "restartPolicy",
)  # fmt: skip


def fingerprint(pod: PodJson) -> str:
    """``v1-`` and 40 hexadecimal digits; the same for a manifest and for what the API server makes of it.

    Unless, that is, something in the cluster changes one of these parts: for example the image, to another registry's.
    """
    spec = pod.get("spec") or {}
    parts = {
        "containers": [_parts(one) for one in spec.get("containers") or () if one.get("name") in (EXECUTOR, RUNNER)],
        "volumes": sorted(_mounts_of_own_volumes(spec)),
        "shared": bool(spec.get("shareProcessNamespace")),
        "restarts": spec.get("restartPolicy"),
    }
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return f"{_VERSION}-{hashlib.sha256(canonical.encode()).hexdigest()[:40]}"


def is_comparable(recorded: str) -> bool:
    """Whether this version computes fingerprints as the one that recorded this did."""
    return recorded.startswith(f"{_VERSION}-")


def destinations(pod: PodJson) -> tuple[str, ...]:
    """The image references that the Pod was told to push; none if it has no request that can be read."""
    executor = container_of((pod.get("spec") or {}).get("containers"), EXECUTOR)
    text = next((one.get("value") or "" for one in executor.get("env") or () if one.get("name") == REQUEST_ENV), "")
    try:  # not by the model: an executor of another release may have been given fields that this one does not know
        found = json.loads(base64.b64decode(text, validate=True))["output"]["destinations"]
    except (binascii.Error, ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _parts(container: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: container[name] for name in ("name", *_WHOLE) if container.get(name)}
    variables = [one for one in container.get("env") or () if is_reserved(one.get("name") or "")]
    mounts = [one for one in container.get("volumeMounts") or () if mount_path_problem(one.get("mountPath") or "/")]
    return {
        **parts,
        "report": container.get("terminationMessagePath") or TERMINATION_MESSAGE_PATH,  # Kubernetes' default
        "env": [{key: value for key, value in one.items() if value} for one in variables],
        "mounts": sorted(_mount(one) for one in mounts),
    }


def _mounts_of_own_volumes(spec: Mapping[str, Any]) -> Iterator[list[str]]:
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        for mount in container.get("volumeMounts") or ():
            if (mount.get("name") or "").startswith(RESERVED_VOLUME_PREFIX):
                yield [container.get("name") or "", *_mount(mount)]


def _mount(mount: Mapping[str, Any]) -> list[str]:
    kept = [mount.get(name) or "" for name in ("mountPath", "name", "subPath", "subPathExpr")]
    return [*kept, "ro" if mount.get("readOnly") else "rw"]
