"""What of a manifest is read has the form that Kubernetes gives it, or is an error that names the place.

No I/O. Called by ``manifest`` before anything else is read. The rest of a manifest may be anything.
"""

from __future__ import annotations

from typing import Any

from imagewright.errors import UsageError

_REFERENCE = {"name": str, "key": str}
_ITEMS = [{"key": str, "path": str}]
_SECRET = {"name": str, "secretName": str, "items": _ITEMS}
_CONFIG_MAP = {"name": str, "items": _ITEMS}
_VOLUME = {
    "name": str,
    "secret": _SECRET,
    "configMap": _CONFIG_MAP,
    "projected": {"sources": [{"secret": _SECRET, "configMap": _CONFIG_MAP}]},
    "persistentVolumeClaim": {"claimName": str},
}

VOLUMES: Any = [_VOLUME]
CONTAINER: Any = {
    "name": str,
    "command": [str],
    "args": [str],
    "workingDir": str,
    "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": _REFERENCE, "configMapKeyRef": _REFERENCE}}],
    "envFrom": [{"secretRef": {"name": str}, "configMapRef": {"name": str}}],
    "volumeMounts": [{"name": str, "mountPath": str, "subPath": str}],
    "resources": {"requests": dict, "limits": dict},
    "securityContext": {"capabilities": {"add": list, "drop": list}},
}
POD: Any = {"serviceAccountName": str, "tolerations": [dict], "activeDeadlineSeconds": int}
JOB: Any = {"activeDeadlineSeconds": int, "backoffLimit": int, "ttlSecondsAfterFinished": int}
METADATA: Any = {"name": str, "namespace": str}

_WORDS = {str: "a text (in quotes, if need be)", int: "a whole number", dict: "a mapping", list: "a list"}


def check(node: Any, shape: Any, place: str) -> None:
    """Whether ``node`` is as ``shape`` says; what is null is not given, and a key that ``shape`` hasn't is anything.

    Raises:
        UsageError
    """
    wanted: type = shape if isinstance(shape, type) else type(shape)
    if node is None:
        return
    if not isinstance(node, wanted) or isinstance(node, bool):
        raise UsageError(
            f"{place} in the manifest is not {_WORDS[wanted]}", hint="Is it what `kubectl apply` would take?"
        )
    if isinstance(shape, dict) and isinstance(node, dict):
        for key, below in shape.items():
            check(node.get(key), below, f"{place}.{key}")
    elif isinstance(shape, list) and isinstance(node, list):
        for index, one in enumerate(node):
            check(one, shape[0], f"{place}[{index}]")
            if one is None:
                raise UsageError(
                    f"{place}[{index}] in the manifest is empty", hint="Leave it out, or write what it is."
                )
