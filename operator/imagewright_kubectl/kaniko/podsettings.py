"""What surrounds the container becomes the rest of the spec: logins, volumes, the Pod's place and size, the Job's limits.

No I/O. Called by ``conversion``, last: what a field of the spec stands for by then isn't needed again.
"""

from __future__ import annotations

import re

from imagewright_kubectl.kaniko.container import Json, Mount, Mounts, Variables
from imagewright_kubectl.kaniko.diagnostics import Problems
from imagewright_kubectl.kaniko.manifest import Found

_MAX_RETRIES = 8
_DOCKER_CONFIG = "/kaniko/.docker"
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
_KEPT_VOLUMES = ("configMap", "secret", "projected", "persistentVolumeClaim")
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_ADMITTED = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")  # tolerations that the API server adds
_RESERVED = ("/kaniko", "/imagewright", "/proc", "/sys", "/dev", "/var/run/secrets/kubernetes.io")
# What the engine, git and the clouds' SDKs read.
_READ = (
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "AWS_", "GOOGLE_", "AZURE_", "GIT_", "HTTP_AUTH_", "S3_",
    "SOURCE_DATE_EPOCH", "CI_REGISTRY",
)  # fmt: skip
_SECRET = re.compile(r"PASSWORD|TOKEN|SECRET|ACCESS_KEY$|_KEY$")
_MEANINGLESS = ("KANIKO_", "FF_KANIKO_", "DOCKER_CONFIG", "container", "PATH", "HOME", "SSL_CERT_DIR")
_CONTEXT_KEYS = ("seccompProfile", "runAsUser", "runAsGroup", "runAsNonRoot", "allowPrivilegeEscalation")


class Surroundings:
    """Fills the fields of one spec."""

    def __init__(self, found: Found, variables: Variables, mounts: Mounts, problems: Problems) -> None:
        self._found, self._variables, self._mounts, self._problems = found, variables, mounts, problems
        self._docker_config = variables.plain.get("DOCKER_CONFIG", _DOCKER_CONFIG).rstrip("/")

    def fill(self, spec: Json) -> None:
        """Everything that isn't said by a flag."""
        self._push_secret(spec)
        if "pushSecretRef" not in spec["output"] and not self._problems.is_dropped("login"):
            self._problems.note(
                f"no Secret is mounted at {self._docker_config}: --push-secret names the one with the registry's login"
            )
        template: Json = {}
        account = self._found.pod.get("serviceAccountName")
        if account and account != "default":
            template["serviceAccountName"] = account
        if resources := self._found.container.get("resources"):
            template["resources"] = {key: resources[key] for key in ("requests", "limits") if resources.get(key)}
        template |= {
            key: self._found.pod[key] for key in _SETTINGS if self._found.pod.get(key) not in (None, [], {}, "")
        }
        template["tolerations"] = [
            one
            for one in template.get("tolerations") or ()
            if (one.get("key"), one.get("tolerationSeconds")) not in [(key, 300) for key in _ADMITTED]
        ]
        if context := self._security_context():
            template["securityContext"] = context
        if env := self._environment():
            template["env"] = env
        if volumes := [kept for mount in self._mounts.all if (kept := self._volume(mount))]:
            template["volumes"] = volumes
        template = {key: value for key, value in template.items() if value}
        self._job(spec)
        if template:
            spec["podTemplate"] = template
        if self._found.others:
            others = ", ".join(self._found.others)
            self._problems.note(f"an ImageBuild runs no other containers: {others} is left out")
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            if self._found.pod.get(key):
                self._problems.add(key, f"{key}: a build Pod shares nothing of the node")

    def _push_secret(self, spec: Json) -> None:
        for mount in self._mounts.all:
            if not (mount.path + "/").startswith(self._docker_config + "/"):
                continue
            self._mounts.used.add(mount.path)
            if self._problems.is_dropped(mount.path) or self._problems.is_dropped("login"):
                continue
            key = self._mounts.secret_key(f"{self._docker_config}/config.json")
            if key and key["key"] == _LOGIN_KEY:
                spec["output"]["pushSecretRef"] = {"name": key["name"]}
            elif key:
                self._problems.add(
                    mount.path,
                    f"{mount.path}: the login in the Secret {key['name']} is under the key {key['key']}: make one of type "
                    f"kubernetes.io/dockerconfigjson (kubectl create secret generic NAME --type=kubernetes.io/dockerconfigjson "
                    f"--from-file={_LOGIN_KEY}=config.json), and name it with --push-secret",
                )
            elif mount.kind == "emptyDir":
                self._problems.note(
                    f"{mount.path}: an emptyDir is left out: whoever writes a login there can't; --push-secret names one"
                )
            else:
                self._problems.add(
                    mount.path,
                    f"{mount.path}: only a Secret holds a login: the engine finds a cloud's own by itself, others go "
                    "into one (--push-secret)",
                )

    def _volume(self, mount: Mount) -> Json | None:
        """A volume that nothing in the spec stands for yet, where it may stay."""
        if mount.path in self._mounts.used or self._problems.is_dropped(mount.path):
            return None
        if mount.path == _ACCOUNT:
            return None  # in every Pod that the API server shows; a build Pod never has it
        if mount.kind == "emptyDir":
            self._problems.note(
                f"{mount.path}: an emptyDir is left out: the build's own files are on a volume of its own"
            )
            return None
        reserved = next((one for one in _RESERVED if (mount.path + "/").startswith(one + "/")), "")
        if reserved == "/kaniko" and "/ssl/" in mount.path + "/":
            self._problems.add(
                mount.path,
                f"{mount.path}: certificates go into a ConfigMap: spec.output.caBundleRef, spec.registries[].caBundleRef",
            )
        elif reserved:
            self._problems.add(mount.path, f"{mount.path}: {reserved} belongs to the executor: mount it elsewhere")
        elif mount.kind not in _KEPT_VOLUMES or mount.sub_path:
            what = f"a volume of type {mount.kind}" if mount.kind else "a volume that isn't shown"
            with_sub_path = " with a subPath" if mount.sub_path else ""
            self._problems.add(
                mount.path, f"{mount.path}: {what}{with_sub_path} can't be mounted: use {', '.join(_KEPT_VOLUMES)}"
            )
        else:
            return {**mount.volume, "mountPath": mount.path}
        return None

    def _environment(self) -> list[Json]:
        kept: list[Json] = []
        for one in self._found.container.get("env") or ():
            name = str(one.get("name"))
            if self._problems.is_dropped(name) or name in self._variables.used or name.startswith(_MEANINGLESS):
                continue
            if not name.upper().startswith(_READ):
                self._problems.note(f"the variable {name} is left out: the engine doesn't read it")
                continue
            source = one.get("valueFrom") or {}
            if not source and _SECRET.search(name):
                self._problems.add(
                    name,
                    f"the variable {name}: a secret is written into the manifest: put it into a Secret (valueFrom.secretKeyRef)",
                )
            elif not source and "$(" in self._variables.plain[name]:
                self._problems.add(name, f"the variable {name}: write its value; {one['value']} is of another system")
            elif not source:
                kept.append({"name": name, "value": self._variables.plain[name]})
            elif source.get("secretKeyRef") or source.get("configMapKeyRef"):
                kind = "secretKeyRef" if source.get("secretKeyRef") else "configMapKeyRef"
                key = {"name": source[kind].get("name"), "key": source[kind].get("key")}
                kept.append({"name": name, "valueFrom": {kind: key}})
            else:
                self._problems.add(
                    name, f"the variable {name}: only a value, a Secret's or a ConfigMap's key can be given"
                )
        return kept

    def _security_context(self) -> Json:
        given = self._found.container.get("securityContext") or {}
        if given.get("privileged"):
            self._problems.note("securityContext.privileged is left out: no build needs it")
        kept: Json = {key: given[key] for key in _CONTEXT_KEYS if key in given}
        if kept.get("runAsUser") == 0:
            del kept["runAsUser"]  # as it is without
        if drop := (given.get("capabilities") or {}).get("drop"):
            kept["capabilities"] = {"drop": drop}
        if (given.get("capabilities") or {}).get("add"):
            self._problems.note(
                "securityContext.capabilities.add is left out: the installation says what a build needs"
            )
        return kept

    def _job(self, spec: Json) -> None:
        job = self._found.job
        seconds = job.get("activeDeadlineSeconds") or self._found.pod.get("activeDeadlineSeconds")
        if seconds:
            spec["timeout"] = duration(seconds)
        if job.get("backoffLimit") is not None:
            spec["retry"] = {"limit": min(job["backoffLimit"], _MAX_RETRIES)}
            self._problems.note(
                "backoffLimit is spec.retry.limit, for failures of the infrastructure: a failing RUN is never repeated"
            )
        if job.get("ttlSecondsAfterFinished") is not None:
            spec["retention"] = {"podTTL": duration(job["ttlSecondsAfterFinished"])}
        if self._found.kind == "CronJob":
            self._problems.note(
                "an ImageBuild has no schedule: let a CronJob set the annotation imagewright.dev/requestedAt"
            )


def duration(seconds: int) -> str:
    """``1h30m``."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value) or "0s"
