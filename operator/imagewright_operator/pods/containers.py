"""The containers of an executor Pod: the engine's, and one in which commands run where user namespaces are off.

No I/O. ``runner`` has no Secret, no volume and no variable of ``executor``: what runs in it has no credentials to read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from imagewright.contract import REQUEST_ENV, RUNNER_DIR, TERMINATION_MESSAGE_PATH
from imagewright_operator.api import ImageBuild
from imagewright_operator.api.base import Json
from imagewright_operator.api.spec import Sandbox
from imagewright_operator.pods.request import arg_variable, build_request
from imagewright_operator.pods.states import EXECUTOR, RUNNER
from imagewright_operator.pods.volumes import RUNNER_VOLUME, has_runner
from imagewright_operator.settings import Profile, Settings

_ENTRY_POINT = "/kaniko/executor"
_STRICT_CAPABILITIES = ("SYS_ADMIN", "SYS_CHROOT", "SETUID", "SETGID", "SETFCAP", "DAC_OVERRIDE", "CHOWN", "FOWNER")
_DISK = "ephemeral-storage"
_COMMON_RESOURCES = ("cpu", "memory", _DISK)  # others, such as GPUs, are for commands only


def containers(imagebuild: ImageBuild, settings: Settings, profile: Profile, mounts: list[Json]) -> list[Json]:
    """The containers in the order in which the kubelet starts them. ``mounts`` are the executor's.

    Raises:
        UsageError: reason ``InvalidSpec``: the request does not fit into an environment variable.
    """
    image: Json = {"image": settings.executor_image}
    if settings.executor_pull_policy:
        image["imagePullPolicy"] = settings.executor_pull_policy
    context = _security_context(imagebuild.spec.pod_template.container_security, profile)
    resources = _resources(imagebuild, settings, profile)
    executor = {
        "name": EXECUTOR,
        **image,
        "command": [_ENTRY_POINT],
        "args": ["execute"],
        "env": _environment(imagebuild, settings),
        "resources": resources[EXECUTOR],
        "securityContext": context,
        "terminationMessagePath": TERMINATION_MESSAGE_PATH,
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts,
    }
    if not has_runner(imagebuild.spec):
        return [executor]
    runner = {
        "name": RUNNER,
        **image,
        "command": [_ENTRY_POINT],
        "args": ["runner"],
        "resources": resources[RUNNER],
        "securityContext": context,
        "volumeMounts": [{"name": RUNNER_VOLUME, "mountPath": RUNNER_DIR, "readOnly": True}],
    }
    return [runner, executor]


def commands_container(imagebuild: ImageBuild, profile: Profile) -> str:
    """The container in which commands are expected to run; it is not known before the engine has tried.

    Runtimes' default seccomp profiles allow user namespaces to processes with SYS_ADMIN only.
    """
    spec = imagebuild.spec
    if not has_runner(spec):
        return EXECUTOR
    if spec.sandbox is not Sandbox.AUTO:
        return RUNNER
    context = _security_context(spec.pod_template.container_security, profile)
    confined = (context.get("seccompProfile") or {}).get("type") == "RuntimeDefault"
    may_unshare = "SYS_ADMIN" in ((context.get("capabilities") or {}).get("add") or ())
    return RUNNER if confined and not may_unshare else EXECUTOR


def _security_context(given: Mapping[str, Any], profile: Profile) -> Json:
    """The profile's context, overridden by the template's, which the allowlist limits to reducing privileges."""
    context: Json = {}
    if profile is Profile.HARDENED:
        context["seccompProfile"] = {"type": "RuntimeDefault"}
    elif profile is Profile.USERNS_STRICT:
        context["seccompProfile"] = {"type": "RuntimeDefault"}
        context["procMount"] = "Unmasked"  # of the Pod's own user namespace
        context["capabilities"] = {"drop": ["ALL"], "add": list(_STRICT_CAPABILITIES)}
    own = context.get("capabilities", {})
    context.update(given)
    if own and "capabilities" in given:
        dropped = [_capability(name) for name in (given["capabilities"] or {}).get("drop") or ()]
        kept = [] if "ALL" in dropped else [name for name in own["add"] if name not in dropped]
        context["capabilities"] = {"drop": ["ALL"], **({"add": kept} if kept else {})}
    return context


def _capability(name: Any) -> str:
    return str(name).upper().removeprefix("CAP_")


def _environment(imagebuild: ImageBuild, settings: Settings) -> list[Json]:
    spec = imagebuild.spec
    environment: list[Json] = [{"name": REQUEST_ENV, "value": build_request(imagebuild, settings).encode()}]
    for index, arg in enumerate(spec.build_args):
        if arg.value_from is not None:
            environment.append({"name": arg_variable(index), "valueFrom": arg.value_from.as_json()})
    for variable in spec.pod_template.env:
        entry = variable.as_json()
        if variable.value is not None:
            entry["value"] = variable.value.replace("$", "$$")  # the kubelet expands $(VAR), and replaces $$ by $
        environment.append(entry)
    return environment


def _resources(imagebuild: ImageBuild, settings: Settings, profile: Profile) -> dict[str, Mapping[str, Any]]:
    """The resources of each container: those for builds belong to the one that is expected to run the commands."""
    given = imagebuild.spec.pod_template.resources
    whole = settings.resources if given is None else {key: value for key, value in given.as_json().items() if value}
    if not has_runner(imagebuild.spec):
        return {EXECUTOR: whole}  # writes to the work folder only, which has a limit of its own
    scratch = [volume.empty_dir for volume in imagebuild.spec.pod_template.volumes if volume.empty_dir is not None]
    sizes = [one.size_limit for one in scratch if one.medium != "Memory"]
    if None not in sizes:  # the kubelet counts what is in them, too
        total = sum(map(parse_quantity, (settings.workspace_size, *sizes)))
        whole = _with_disk_limit(whole, str(total) if sizes else settings.workspace_size)
    if commands_container(imagebuild, profile) == RUNNER:
        return {RUNNER: whole, EXECUTOR: _lesser(whole, settings.engine_resources)}
    return {EXECUTOR: whole, RUNNER: _lesser(whole, settings.runner_resources)}


def _with_disk_limit(whole: Mapping[str, Any], size: str) -> Json:
    """The resources with a limit of ephemeral storage: what RUN writes in ``runner`` is on the node's own disk.

    The kubelet adds up the limits of a Pod's containers, so that both need one. Nothing is requested for it: where the
    node has less, builds run as before.
    """
    limits, requests = whole.get("limits", {}), whole.get("requests", {})
    if _DISK in limits:
        return dict(whole)
    request = requests.get(_DISK, "0")
    limit = size if _at_most(request, size) == request else request
    return {**whole, "requests": {_DISK: "0", **requests}, "limits": {**limits, _DISK: limit}}


def _lesser(whole: Mapping[str, Any], own: Mapping[str, Any]) -> Json:
    """The resources of the other container: its own requests, and the limits of ``whole`` where it has none.

    It names each resource that ``whole`` names: a quota may demand that all containers do, and the API server takes a
    limit for the request where there is none.
    """
    inherited = {name: amount for name, amount in whole.get("limits", {}).items() if name in _COMMON_RESOURCES}
    limits = inherited | own.get("limits", {})
    named = (inherited.keys() | whole.get("requests", {}).keys()) - own.get("limits", {}).keys()
    requests = {name: "0" for name in _COMMON_RESOURCES if name in named}
    for name, amount in own.get("requests", {}).items():
        requests[name] = _at_most(amount, limits.get(name))
    return {kind: amounts for kind, amounts in (("requests", requests), ("limits", limits)) if amounts}


def _at_most(amount: Any, limit: Any) -> Any:
    parse: Callable[[Any], Decimal] = parse_quantity
    return limit if limit is not None and parse(limit) < parse(amount) else amount
