"""The volumes of a build's Pod: work folder, source, credentials, certificates, caches.

No I/O. No reference is optional: the kubelet waits for a missing Secret or ConfigMap, and continues when it exists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagewright.contract import RUNNER_DIR
from imagewright.contract.sources import DOCKER_CONFIG_KEY, KINDS
from imagewright_operator.api import Spec
from imagewright_operator.api.base import Json, KeyReference
from imagewright_operator.api.spec import Sandbox
from imagewright_operator.settings import Settings

# Below /kaniko, the engine's own folder: the mounts hide no path of an image that is built in the ``root`` sandbox.
WORK_DIR = "/kaniko/work"
DOCKER_CONFIG_DIR = "/kaniko/.docker"
SOURCE_CREDENTIALS_DIR = "/kaniko/credentials/source"
CONTEXT_DIR = "/kaniko/context"
REGISTRY_CA_DIR = "/kaniko/certificates/installation"
BUILD_CA_DIR = "/kaniko/certificates/build"
CLIENT_CERTIFICATES_DIR = "/kaniko/certificates/client"
SECRETS_DIR = "/kaniko/secrets"
SSH_KEYS_DIR = "/kaniko/ssh"
CACHE_DIR = "/kaniko/cache"
OUTPUT_CA = "output.crt"
RUNNER_VOLUME = "imagewright-runner"


def has_runner(spec: Spec) -> bool:
    """Whether commands may run outside of the ``namespace`` sandbox, and then need a container of their own."""
    return spec.sandbox is not Sandbox.NAMESPACE


def registry_ca(index: int) -> str:
    """The name of the file in BUILD_CA_DIR with the certificates of ``spec.registries[index]``."""
    return f"registry-{index}.crt"


def own_volumes(spec: Spec, settings: Settings) -> tuple[list[Json], list[Json]]:
    """The operator's own volumes and their mounts in the executor."""
    volumes: list[Json] = [{"name": "imagewright-work", "emptyDir": {"sizeLimit": settings.workspace_size}}]
    mounts: list[Json] = [{"name": "imagewright-work", "mountPath": WORK_DIR}]
    if has_runner(spec):
        volumes.append({"name": RUNNER_VOLUME, "emptyDir": {}})
        mounts.append({"name": RUNNER_VOLUME, "mountPath": RUNNER_DIR})

    def add(name: str, path: str, source: Json) -> None:
        volumes.append({"name": f"imagewright-{name}", **source})
        mounts.append({"name": f"imagewright-{name}", "mountPath": path, "readOnly": True})

    item = {"key": DOCKER_CONFIG_KEY, "path": "config.json"}
    mode = 0o440 if group_of_ordinary_user(spec.pod_template.container_security) is not None else 0o400
    if spec.output.push_secret_ref is not None:
        secret: Json = {"secretName": spec.output.push_secret_ref.name, "items": [item], "defaultMode": mode}
        add("docker-config", DOCKER_CONFIG_DIR, {"secret": secret})
    login = spec.source.secret_ref
    if login is not None:
        secret = {"secretName": login.name, "defaultMode": mode}
        if any(kind.field in spec.source.given and kind.secret_keys == (DOCKER_CONFIG_KEY,) for kind in KINDS):
            secret["items"] = [item]
        add("source-credentials", SOURCE_CREDENTIALS_DIR, {"secret": secret})
    # Files, not environment variables, which every child process would inherit. Named by their index: an ID may contain
    # a slash.
    for name, path, references in (
        ("secrets", SECRETS_DIR, [secret.secret_key_ref for secret in spec.secrets]),
        ("ssh", SSH_KEYS_DIR, [key.secret_key_ref for key in spec.ssh]),
    ):
        if references:
            add(name, path, {"projected": {"sources": _named_keys("secret", references), "defaultMode": mode}})
    if spec.cache is not None and spec.cache.volume is not None:
        claim = {"claimName": spec.cache.volume.claim_name}
        volumes.append({"name": "imagewright-cache", "persistentVolumeClaim": claim})
        mounts.append({"name": "imagewright-cache", "mountPath": CACHE_DIR})
    if spec.source.config_map is not None:
        add("context", CONTEXT_DIR, {"configMap": {"name": spec.source.config_map.name}})
    if spec.source.volume is not None:
        volume = spec.source.volume
        add("context", CONTEXT_DIR, {"persistentVolumeClaim": {"claimName": volume.claim_name, "readOnly": True}})
        if volume.sub_path:
            mounts[-1]["subPath"] = volume.sub_path
    if settings.registry_ca_config_map:
        add("installation-ca", REGISTRY_CA_DIR, {"configMap": {"name": settings.registry_ca_config_map}})
    bundles = [
        (registry_ca(index), registry.ca_bundle_ref)
        for index, registry in enumerate(spec.registries)
        if registry.ca_bundle_ref is not None
    ]
    if spec.output.ca_bundle_ref is not None:
        bundles.append((OUTPUT_CA, spec.output.ca_bundle_ref))
    if bundles:
        sources = [
            {"configMap": {"name": bundle.name, "items": [{"key": bundle.key, "path": path}]}}
            for path, bundle in bundles
        ]
        add("build-ca", BUILD_CA_DIR, {"projected": {"sources": sources}})
    for index, registry in enumerate(spec.registries):
        if registry.client_certificate_secret_ref is not None:
            pair = [{"key": name, "path": name} for name in ("tls.crt", "tls.key")]  # the Pod waits for both
            secret = {"secretName": registry.client_certificate_secret_ref.name, "items": pair, "defaultMode": mode}
            add(f"client-certificate-{index}", f"{CLIENT_CERTIFICATES_DIR}/{index}", {"secret": secret})
    return volumes, mounts


def _named_keys(kind: str, references: Sequence[KeyReference]) -> list[Json]:
    """Sources of a projected volume: one key each, in a file named by its index."""
    return [
        {kind: {"name": reference.name, "items": [{"key": reference.key, "path": str(index)}]}}
        for index, reference in enumerate(references)
    ]


def group_of_ordinary_user(context: Mapping[str, Any]) -> int | None:
    """The group that must be able to read the mounted Secrets if the container does not run as root."""
    user = context.get("runAsUser")
    if not isinstance(user, int) or user == 0:
        return None
    group = context.get("runAsGroup")
    return group if isinstance(group, int) else user
