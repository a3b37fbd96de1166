"""The allowlist of spec.podTemplate: the operator must not be a confused deputy.

No I/O. A user who may create ImageBuilds but not Pods gains no privilege by the template: only what is listed is
allowed, everything else is refused by name, whatever Pod Security says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from imagewright_operator.api.podtemplate import PodTemplate, Volume
from imagewright_operator.api.volumerules import (
    PROJECTED_SOURCES,
    RESERVED_VOLUME_PREFIX,
    VOLUME_TYPES,
    mount_path_problem,
)
from imagewright_operator.settings import Profile, Settings

_WHERE = "spec.podTemplate"
_SECURITY_CONTEXT = {
    "allowPrivilegeEscalation",
    "appArmorProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "runAsGroup",
    "runAsNonRoot",
    "runAsUser",
    "seLinuxOptions",
    "seccompProfile",
}
_RESERVED_ENVIRONMENT = ("IMAGEWRIGHT_", "DOCKER_CONFIG", "LD_", "PYTHON", "PATH", "HOME")
_OWN_LABELS = ("imagewright.dev/", "app.kubernetes.io/", "kubernetes.io/", "k8s.io/")
_LOW_PROFILES = ("RuntimeDefault", "Localhost")


def problems(template: PodTemplate, settings: Settings) -> Iterator[str]:
    """The fields that are not allowed, each with the reason."""
    account = template.service_account_name
    if account is not None and account not in settings.service_accounts:
        allowed = ", ".join(sorted(settings.service_accounts)) or "none"
        yield f'{_WHERE}.serviceAccountName "{account}" is not allowed: this installation allows {allowed}'
    if template.host_users and settings.profile in (Profile.USERNS, Profile.USERNS_STRICT):
        yield f"{_WHERE}.hostUsers: true is not allowed: this installation runs every build in a user namespace"
    if (template.priority_class_name or "").startswith("system-"):
        yield f'{_WHERE}.priorityClassName "{template.priority_class_name}" is not allowed: it is reserved for the cluster'
    yield from _security_context(template.security_context or {}, settings)
    for volume in template.volumes:
        yield from _volume(volume, settings)
    for variable in template.env:
        if variable.name.startswith(_RESERVED_ENVIRONMENT):
            yield f"{_WHERE}.env {variable.name} is not allowed: it is reserved for the executor"
    for kind, keys in (("labels", template.labels), ("annotations", template.annotations)):
        for key in keys:
            domain = key.rpartition("/")[0]
            if any(f"{domain}/" == own or f"{domain}/".endswith("." + own) for own in _OWN_LABELS):
                yield f'{_WHERE}.{kind} "{key}" is not allowed: the prefix is reserved for the cluster and the operator'


def _security_context(context: Mapping[str, Any], settings: Settings) -> Iterator[str]:
    where = f"{_WHERE}.securityContext"
    for key in sorted(set(context) - _SECURITY_CONTEXT):
        if not (key == "privileged" and context[key] is False):
            yield f"{where}.{key} is not allowed: it may give the Pod more privileges than the installation does"
    capabilities = context.get("capabilities") or {}
    if not isinstance(capabilities, Mapping) or set(capabilities) - {"drop", "add"} or capabilities.get("add"):
        yield f"{where}.capabilities.add is not allowed: capabilities can only be dropped"
    seccomp = context.get("seccompProfile")
    if seccomp is not None:
        kind = seccomp.get("type") if isinstance(seccomp, Mapping) else None
        # A Localhost profile may filter less than the installation's.
        strict = settings.profile in (Profile.HARDENED, Profile.USERNS_STRICT)
        allowed = ("RuntimeDefault",) if strict else (*_LOW_PROFILES, "Unconfined")
        if kind not in allowed:
            yield f'{where}.seccompProfile "{kind}" is not allowed: use {" or ".join(allowed)}'
    apparmor = context.get("appArmorProfile")
    if apparmor is not None and (not isinstance(apparmor, Mapping) or apparmor.get("type") not in _LOW_PROFILES):
        yield f"{where}.appArmorProfile is not allowed: use type RuntimeDefault or Localhost"
    if context.get("seLinuxOptions"):
        yield f"{where}.seLinuxOptions is not allowed: the container keeps the node's default label"


def _volume(volume: Volume, settings: Settings) -> Iterator[str]:
    where = f'{_WHERE}.volumes "{volume.name}"'
    allowed = (*VOLUME_TYPES, "csi") if settings.csi_volumes else VOLUME_TYPES
    kinds = sorted(volume.source)
    if len(kinds) != 1:
        yield f"{where} must have exactly one of {', '.join(allowed)}"
        return
    kind = kinds[0]
    if kind not in allowed:
        yield f"{where} of type {kind} is not allowed: use one of {', '.join(allowed)}"
    elif kind == "projected":
        yield from _projection(volume, where)
    if problem := mount_path_problem(volume.mount_path):
        yield f'{where}: invalid mountPath "{volume.mount_path}": {problem}'
    if volume.name.startswith(RESERVED_VOLUME_PREFIX):
        yield f'{where}: invalid name: the prefix "{RESERVED_VOLUME_PREFIX}" is reserved for the operator'


def _projection(volume: Volume, where: str) -> Iterator[str]:
    sources = volume.source["projected"]
    listed = sources.get("sources", []) if isinstance(sources, Mapping) else []
    for source in listed:
        for kind in source if isinstance(source, Mapping) else ["?"]:
            if kind not in PROJECTED_SOURCES:
                yield f"{where} must not project {kind}: use {', '.join(PROJECTED_SOURCES)}"
