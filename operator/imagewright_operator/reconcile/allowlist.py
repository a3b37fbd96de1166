"""The allowlist of spec.podTemplate: the operator must not be a confused deputy.

No I/O. A user who may create ImageBuilds but not Pods gains no privilege by the template: only what is listed here or
in the settings is allowed, everything else is refused by name, whatever Pod Security says.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagewright_operator.api.affinity import Affinity
from imagewright_operator.api.base import unknown_fields
from imagewright_operator.api.envrules import is_refused
from imagewright_operator.api.podtemplate import PodTemplate
from imagewright_operator.api.podvolumes import Volume
from imagewright_operator.api.securitycontext import SecurityContext
from imagewright_operator.api.volumerules import (
    PROJECTED_SOURCES,
    RESERVED_VOLUME_PREFIX,
    VOLUME_TYPES,
    mount_path_problem,
)
from imagewright_operator.patterns import AllowList
from imagewright_operator.settings import Profile, Settings

_WHERE = "spec.podTemplate"
_OWN_LABELS = ("imagewright.dev/", "app.kubernetes.io/", "kubernetes.io/", "k8s.io/")
_LOW_PROFILES = ("RuntimeDefault", "Localhost")


def problems(template: PodTemplate, settings: Settings) -> Iterator[str]:
    """The fields that are not allowed, each with the reason."""
    account = template.service_account_name
    if account is not None and account not in settings.service_accounts:
        allowed = AllowList("IMAGEWRIGHT_SERVICE_ACCOUNTS", tuple(sorted(settings.service_accounts)))
        yield _refused("serviceAccountName", account, allowed)
    yield from _host_users(template, settings)
    yield from _keys(template, settings)
    if template.security_context is not None:
        yield from _security_context(template.security_context, settings)
    for volume in template.volumes:
        yield from _volume(volume, settings)
    for field in unknown_fields(template.affinity, f"{_WHERE}.affinity"):
        yield f"{field} is not allowed: this version does not know it"


def _host_users(template: PodTemplate, settings: Settings) -> Iterator[str]:
    where = f"{_WHERE}.hostUsers: true is not allowed"
    if template.host_users and settings.profile in (Profile.USERNS, Profile.USERNS_STRICT):
        yield f"{where}: this installation runs every build in a user namespace"
    elif template.host_users and settings.profile is Profile.AUTO and not settings.allowed.host_users:
        yield f"{where}: the operator's setting IMAGEWRIGHT_ALLOW_HOST_USERS is false; remove the field: nodes decide"


def _keys(template: PodTemplate, settings: Settings) -> Iterator[str]:
    """What the settings list: keys by which others select, place or configure the Pod, and names of its classes."""
    allowed = settings.allowed
    for kind, given, listed in (
        ("labels", template.labels, allowed.labels),
        ("annotations", template.annotations, allowed.annotations),
    ):
        for key in given:
            domain = key.rpartition("/")[0]
            if any(f"{domain}/" == own or f"{domain}/".endswith("." + own) for own in _OWN_LABELS):
                yield f'{_WHERE}.{kind} "{key}" is not allowed: the prefix is reserved for the cluster and the operator'
            elif not listed.allows(key):
                yield _refused(kind, key, listed)
    for variable in template.env:
        if is_refused(variable.name):
            yield f'{_WHERE}.env "{variable.name}" is not allowed: it would change what the engine runs, whom it trusts or where logins are sent'
        elif not allowed.env.allows(variable.name):
            yield _refused("env", variable.name, allowed.env)
    for toleration in template.tolerations:
        if not allowed.tolerations.allows(toleration.key or ""):
            yield _refused("tolerations", toleration.key or "*", allowed.tolerations)  # without a key: every taint
    nodes = template.affinity.node_affinity if template.affinity is not None else None
    keys = [*template.node_selector, *(nodes.keys if nodes is not None else ())]
    for key in dict.fromkeys(keys):
        if not allowed.node_selectors.allows(key):
            field = "nodeSelector" if key in template.node_selector else "affinity.nodeAffinity"
            yield _refused(field, key, allowed.node_selectors)
    if template.affinity is not None:
        yield from _pod_affinity(template.affinity)
    for kind, name, listed in (
        ("priorityClassName", template.priority_class_name, allowed.priority_classes),
        ("runtimeClassName", template.runtime_class_name, allowed.runtime_classes),
    ):
        if kind == "priorityClassName" and (name or "").startswith("system-"):
            yield f'{_WHERE}.{kind} "{name}" is not allowed: it is reserved for the cluster'
        elif name and not listed.allows(name):
            yield _refused(kind, name, listed)


def _refused(kind: str, key: str, listed: AllowList) -> str:
    return f'{_WHERE}.{kind} "{key}" is not allowed: {listed.refusal()}'


def _pod_affinity(affinity: Affinity) -> Iterator[str]:
    """Anti-affinity to Pods of other namespaces would keep these from their nodes."""
    for kind, given in (("podAffinity", affinity.pod_affinity), ("podAntiAffinity", affinity.pod_anti_affinity)):
        terms = [*given.terms] if given is not None else []
        for field, found in (
            ("namespaces", any(one.namespaces is not None for one in terms)),
            ("namespaceSelector", any(one.namespace_selector is not None for one in terms)),
        ):
            if found:
                yield f"{_WHERE}.affinity.{kind}.{field} is not allowed: only Pods of the own namespace can be named"


def _security_context(context: SecurityContext, settings: Settings) -> Iterator[str]:
    where = f"{_WHERE}.securityContext"
    more = [
        *(["privileged"] if context.privileged else []),
        *(["procMount"] if context.proc_mount is not None else []),
        *(field.removeprefix(f"{where}.") for field in unknown_fields(context, where)),
    ]
    for field in sorted(more):
        yield f"{where}.{field} is not allowed: it may give the Pod more privileges than the installation does"
    if context.capabilities is not None and context.capabilities.add:
        yield f"{where}.capabilities.add is not allowed: capabilities can only be dropped"
    if context.seccomp_profile is not None:
        # A Localhost profile may filter less than the installation's.
        strict = settings.profile in (Profile.HARDENED, Profile.USERNS_STRICT)
        allowed = ("RuntimeDefault",) if strict else (*_LOW_PROFILES, "Unconfined")
        kind = context.seccomp_profile.type
        if kind not in allowed:
            yield f'{where}.seccompProfile "{kind}" is not allowed: use {" or ".join(allowed)}'
    if context.app_armor_profile is not None and context.app_armor_profile.type not in _LOW_PROFILES:
        yield f"{where}.appArmorProfile is not allowed: use type RuntimeDefault or Localhost"
    if context.se_linux_options is not None:
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
    elif found := [*_projection(volume, where)]:
        yield from found
    else:
        for field in unknown_fields(volume, f"{_WHERE}.volumes"):
            yield f"{field} is not allowed: this version does not know it"
    if problem := mount_path_problem(volume.mount_path):
        yield f'{where}: invalid mountPath "{volume.mount_path}": {problem}'
    if volume.name.startswith(RESERVED_VOLUME_PREFIX):
        yield f'{where}: invalid name: the prefix "{RESERVED_VOLUME_PREFIX}" is reserved for the operator'


def _projection(volume: Volume, where: str) -> Iterator[str]:
    for source in (volume.projected.sources or ()) if volume.projected is not None else ():
        kinds = [*source.as_json()]
        for kind in kinds:
            if kind not in PROJECTED_SOURCES:
                yield f"{where} must not project {kind}: use {', '.join(PROJECTED_SOURCES)}"
        if len(kinds) != 1:
            yield f"{where} must not project {len(kinds)} kinds in one source: use one of {', '.join(PROJECTED_SOURCES)}"
