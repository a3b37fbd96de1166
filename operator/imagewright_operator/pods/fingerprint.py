"""What an executor Pod runs, as a hash of what decides it: its containers, their volumes, and what they share.

No I/O. It has what the operator sets and what could change the result instead; it hasn't what a cluster adds to a Pod
as a rule when it is created (ADR 37): resources, placement, other containers unless they mount the executor's volumes,
and the tokens of identities with their variables.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

from imagewright.contract import REQUEST_ENV, TERMINATION_MESSAGE_PATH
from imagewright_operator.api.volumerules import RESERVED_VOLUME_PREFIX, is_at_engines_path
from imagewright_operator.pods.states import EXECUTOR, RUNNER, container_of

PodJson = Mapping[str, Any]

_VERSION = "v2"
_OF_CONTAINER = (
    "image", "command", "args", "workingDir", "lifecycle", "livenessProbe", "readinessProbe", "startupProbe",
    "restartPolicy", "securityContext", "envFrom", "volumeDevices",
)  # fmt: skip
_OF_POD = (
    "restartPolicy", "hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace", "hostAliases", "dnsConfig",
    "automountServiceAccountToken", "enableServiceLinks", "runtimeClassName", "securityContext",
)  # fmt: skip
_ALL_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
# What the API server fills in; a manifest doesn't have it.
_DEFAULTS = {
    "apiVersion": "v1", "defaultMode": 0o644, "procMount": "Default", "readOnly": False,
}  # fmt: skip
_AMOUNTS = ("sizeLimit", "divisor")  # which the API server writes in another form
_TOKEN_FOLDERS = ("/var/run/secrets/", "/run/secrets/")
# Set by the webhooks that give a Pod its cloud identity, as documented for EKS, Azure and Alibaba Cloud.
_IDENTITY_VARIABLES = (
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_DEFAULT_REGION", "AWS_REGION",
    "AWS_ROLE_ARN", "AWS_STS_REGIONAL_ENDPOINTS", "AWS_WEB_IDENTITY_TOKEN_FILE", "AZURE_AUTHORITY_HOST",
    "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_TENANT_ID", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE", "ALIBABA_CLOUD_ROLE_ARN",
)  # fmt: skip


def fingerprint(pod: PodJson) -> str:
    """``v2-`` and 40 hexadecimal digits; the same for a manifest and for what the API server makes of it.

    Unless, that is, something in the cluster changes one of these parts: for example the image, to another registry's.
    """
    spec = pod.get("spec") or {}
    own = [one for one in spec.get("containers") or () if one.get("name") in (EXECUTOR, RUNNER)]
    volumes = {mount.get("name") or "" for one in own for mount in _mounts(one)}
    parts = {
        "containers": [_parts(one) for one in own],
        "mounts": sorted(_mounts_of(volumes, spec)),
        "volumes": sorted(_sources_of(volumes, spec)),
        "pod": {name: _plain(spec[name]) for name in _OF_POD if _plain(spec.get(name)) is not None},
        "account": spec.get("serviceAccountName") or "default",
        "dns": spec.get("dnsPolicy") or "ClusterFirst",
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
    variables = [one for one in container.get("env") or () if one.get("name") not in _IDENTITY_VARIABLES]
    return {
        **{name: _plain(container.get(name)) for name in ("name", *_OF_CONTAINER)},
        "report": container.get("terminationMessagePath") or TERMINATION_MESSAGE_PATH,  # Kubernetes' default
        "reportedBy": container.get("terminationMessagePolicy") or "File",
        "env": [_plain(one) for one in variables],
        "mounts": sorted(_mount(one) for one in _mounts(container)),
    }


def _mounts(container: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Mounts that count: all but those of tokens, which webhooks add."""
    for mount in container.get("volumeMounts") or ():
        path = mount.get("mountPath") or "/"
        folded = "/" + posixpath.normpath(path).lstrip("/")
        if not folded.startswith(_TOKEN_FOLDERS) or is_at_engines_path(path):
            yield mount


def _mounts_of(volumes: set[str], spec: Mapping[str, Any]) -> Iterator[list[str]]:
    """Of all containers the mounts of these volumes, and of the operator's own."""
    for container in (one for field in _ALL_CONTAINERS for one in spec.get(field) or ()):
        for mount in container.get("volumeMounts") or ():
            name = mount.get("name") or ""
            if name in volumes or name.startswith(RESERVED_VOLUME_PREFIX):
                yield [container.get("name") or "", *_mount(mount)]


def _sources_of(volumes: set[str], spec: Mapping[str, Any]) -> Iterator[str]:
    """What these volumes hold, and the operator's own."""
    for volume in spec.get("volumes") or ():
        name = volume.get("name") or ""
        if name in volumes or name.startswith(RESERVED_VOLUME_PREFIX):
            yield json.dumps(_plain(volume), sort_keys=True)


def _mount(mount: Mapping[str, Any]) -> list[str]:
    kept = [mount.get(name) or "" for name in ("mountPath", "name", "subPath", "subPathExpr")]
    return [*kept, "ro" if mount.get("readOnly") else "rw", mount.get("mountPropagation") or "None"]


def _plain(value: Any) -> Any:
    """The value as its author wrote it: without what is empty and what the API server fills in; None for nothing."""
    if isinstance(value, Mapping):
        plain = {key: _plain(item) for key, item in value.items() if key not in _AMOUNTS and _DEFAULTS.get(key) != item}
        return {key: item for key, item in plain.items() if item is not None} or None
    if isinstance(value, list):
        return [_plain(item) for item in value] or None
    return value if value != "" else None
