"""Converts what the manifest has around the flags: the registry login, volumes, the Pod's settings, the Job's limits.

No I/O. Comes last: a variable or mount that a field of the spec has replaced by then is not kept.
"""

from __future__ import annotations

import re

from imagewright_kubectl.kaniko.container import Environment, Json, Mount, Mounts
from imagewright_kubectl.kaniko.diagnostics import Diagnostics
from imagewright_kubectl.kaniko.manifest import Workload
from imagewright_operator.api.volumerules import (
    PROJECTED_SOURCES,
    RESERVED_VOLUME_PREFIX,
    VOLUME_TYPES,
    mount_path_problem,
)

_MAX_RETRIES = 8
_DOCKER_CONFIG = "/kaniko/.docker"
_CERTIFICATES = "/kaniko/ssl"
_LOGIN_KEY = ".dockerconfigjson"
_SETTINGS = (
    "nodeSelector",
    "tolerations",
    "affinity",
    "priorityClassName",
    "runtimeClassName",
    "imagePullSecrets",
    "hostUsers",
)
_KEPT_VOLUMES = tuple(kind for kind in VOLUME_TYPES if kind != "emptyDir")
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ADMITTED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")  # tolerations that the API server adds
# Variables that the engine, git and the clouds' SDKs read.
_READ = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "AWS_", "GOOGLE_", "AZURE_", "GIT_", "HTTP_AUTH_", "S3_",
    "SOURCE_DATE_EPOCH", "CI_REGISTRY",
)  # fmt: skip
_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY$|_KEY$")
_MEANINGLESS = ("KANIKO_", "FF_KANIKO_", "DOCKER_CONFIG", "container", "PATH", "HOME", "SSL_CERT_DIR")
_CONTEXT_KEYS = ("seccompProfile", "runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation")


class PodSettings:
    """Fills these fields of one spec."""

    def __init__(self, workload: Workload, environment: Environment, mounts: Mounts, diagnostics: Diagnostics) -> None:
        self._workload, self._environment = workload, environment
        self._mounts, self._diagnostics = mounts, diagnostics
        self._docker_config = environment.values.get("DOCKER_CONFIG", _DOCKER_CONFIG).rstrip("/")

    def fill(self, spec: Json) -> None:
        """``output.pushSecretRef``, ``timeout``, ``retry``, ``retention`` and ``podTemplate``."""
        self._push_secret(spec)
        if "pushSecretRef" not in spec["output"] and not self._diagnostics.is_dropped("login"):
            self._diagnostics.note(
                f'no Secret is mounted at "{self._docker_config}"; name the one with the registry\'s login with --push-secret'
            )
        template: Json = {}
        pod = self._workload.pod
        account = pod.get("serviceAccountName")
        if account and account != "default":
            template["serviceAccountName"] = account
        if resources := self._workload.container.get("resources"):
            template["resources"] = {key: resources[key] for key in ("requests", "limits") if resources.get(key)}
        template |= {key: pod[key] for key in _SETTINGS if pod.get(key) not in (None, [], {}, "")}
        template["tolerations"] = [
            one
            for one in template.get("tolerations") or ()
            if (one.get("key"), one.get("tolerationSeconds")) not in [(key, 300) for key in _ADMITTED]
        ]
        if context := self._security_context():
            template["securityContext"] = context
        if env := self._environment_variables():
            template["env"] = env
        if volumes := [kept for mount in self._mounts.all if (kept := self._volume(mount))]:
            template["volumes"] = volumes
        template = {key: value for key, value in template.items() if value}
        self._job(spec)
        if template:
            spec["podTemplate"] = template
        if self._workload.other_containers:
            names = ", ".join(f'"{name}"' for name in self._workload.other_containers)
            self._diagnostics.note(f"ignored the containers {names}: an ImageBuild runs no others")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.get(key):
                self._diagnostics.error(key, f"{key}: a build Pod cannot use the node's namespaces")

    def _push_secret(self, spec: Json) -> None:
        for mount in self._mounts.all:
            if not (mount.path + "/").startswith(self._docker_config + "/"):
                continue
            self._mounts.used.add(mount.path)
            if self._diagnostics.is_dropped(mount.path) or self._diagnostics.is_dropped("login"):
                continue
            key = self._mounts.secret_key(f"{self._docker_config}/config.json")
            if key and key["key"] == _LOGIN_KEY:
                spec["output"]["pushSecretRef"] = {"name": key["name"]}
            elif key:
                self._mount_error(
                    mount,
                    f'the login is under the key "{key["key"]}" of the Secret "{key["name"]}": create a Secret of type '
                    f"kubernetes.io/dockerconfigjson (kubectl create secret generic NAME --type=kubernetes.io/dockerconfigjson "
                    f"--from-file={_LOGIN_KEY}=config.json) and name it with --push-secret",
                )
            elif mount.type == "emptyDir":
                self._diagnostics.note(
                    f'ignored the emptyDir at "{mount.path}": no other container writes a login; use --push-secret'
                )
            else:
                self._mount_error(
                    mount,
                    "a registry login must be in a Secret: name it with --push-secret (the engine uses a cloud's login by itself)",
                )

    def _volume(self, mount: Mount) -> Json | None:
        """The volume as ``podTemplate`` has it, unless a field of the spec replaces it or it can't be kept."""
        if mount.path in self._mounts.used or self._diagnostics.is_dropped(mount.path):
            return None
        if mount.path == _ACCOUNT:
            return None  # in every Pod that the API server shows; a build Pod never has it
        if mount.type == "emptyDir":
            self._diagnostics.note(f'ignored the emptyDir at "{mount.path}": a build has a volume of its own')
            return None
        if problem := _volume_problem(mount):
            self._mount_error(mount, problem)
            return None
        return {**mount.volume, "mountPath": mount.path}

    def _mount_error(self, mount: Mount, problem: str) -> None:
        self._diagnostics.error(mount.path, f'volume "{mount.name}" at "{mount.path}": {problem}')

    def _environment_variables(self) -> list[Json]:
        kept: list[Json] = []
        for variable in self._workload.container.get("env") or ():
            name = str(variable.get("name"))
            if self._diagnostics.is_dropped(name) or name in self._environment.used or name.startswith(_MEANINGLESS):
                continue
            if not name.upper().startswith(_READ):
                self._diagnostics.note(f"ignored the variable {name}: the engine does not read it")
                continue
            source = variable.get("valueFrom") or {}
            if not source and _SECRET.search(name):
                self._diagnostics.error(
                    name,
                    f"variable {name}: the manifest contains a secret: put it into a Secret (valueFrom.secretKeyRef)",
                )
            elif not source and "$(" in self._environment.values[name]:
                self._diagnostics.error(name, f'variable {name}: cannot expand "{variable["value"]}": write its value')
            elif not source:
                kept.append({"name": name, "value": self._environment.values[name]})
            elif source.get("secretKeyRef") or source.get("configMapKeyRef"):
                kind = "secretKeyRef" if source.get("secretKeyRef") else "configMapKeyRef"
                key = {"name": source[kind].get("name"), "key": source[kind].get("key")}
                kept.append({"name": name, "valueFrom": {kind: key}})
            else:
                self._diagnostics.error(
                    name, f"variable {name}: unsupported valueFrom: use a value, secretKeyRef or configMapKeyRef"
                )
        return kept

    def _security_context(self) -> Json:
        given = self._workload.container.get("securityContext") or {}
        if given.get("privileged"):
            self._diagnostics.note("ignored securityContext.privileged: builds run without privilege")
        kept: Json = {key: given[key] for key in _CONTEXT_KEYS if key in given}
        if kept.get("runAsUser") == 0:
            del kept["runAsUser"]  # the default
        if drop := (given.get("capabilities") or {}).get("drop"):
            kept["capabilities"] = {"drop": drop}
        if (given.get("capabilities") or {}).get("add"):
            self._diagnostics.note(
                "ignored securityContext.capabilities.add: the installation sets the capabilities of builds"
            )
        return kept

    def _job(self, spec: Json) -> None:
        job = self._workload.job
        seconds = job.get("activeDeadlineSeconds") or self._workload.pod.get("activeDeadlineSeconds")
        if seconds:
            spec["timeout"] = duration(seconds)
        if job.get("backoffLimit") is not None:
            spec["retry"] = {"limit": min(job["backoffLimit"], _MAX_RETRIES)}
            self._diagnostics.note(
                "backoffLimit became spec.retry.limit, which covers failures of the infrastructure: a failing RUN is not retried"
            )
        if job.get("ttlSecondsAfterFinished") is not None:
            spec["retention"] = {"podTTL": duration(job["ttlSecondsAfterFinished"])}
        if self._workload.kind == "CronJob":
            self._diagnostics.note(
                "an ImageBuild has no schedule; have a CronJob set the annotation imagewright.dev/requestedAt"
            )


def duration(seconds: int) -> str:
    """``1h30m``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"


def _volume_problem(mount: Mount) -> str:
    """Why ``podTemplate`` can't have this volume, "" where it can."""
    if f"{mount.path}/".startswith(f"{_CERTIFICATES}/"):
        return "put certificates into a ConfigMap: spec.output.caBundleRef, spec.registries[].caBundleRef"
    if problem := mount_path_problem(mount.path):
        return f"{problem}: mount it elsewhere"
    supported = f"use {', '.join(_KEPT_VOLUMES)}"
    if not mount.type:
        return f"the manifest does not have this volume: {supported}"
    if mount.type not in _KEPT_VOLUMES:
        return f"volumes of type {mount.type} are not supported: {supported}"
    if mount.name.startswith(RESERVED_VOLUME_PREFIX):
        return f'the prefix "{RESERVED_VOLUME_PREFIX}" is reserved for the operator: rename the volume'
    if mount.sub_path:
        return "subPath is not supported: mount the whole volume"
    sources = (mount.volume.get("projected") or {}).get("sources") or ()
    refused = sorted({kind for source in sources for kind in source} - {*PROJECTED_SOURCES})
    if refused:
        return f"projecting {', '.join(refused)} is not supported: use {', '.join(PROJECTED_SOURCES)}"
    return ""
