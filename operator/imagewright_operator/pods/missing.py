"""The Secret or ConfigMap that a Pod waits for, by the kubelet's words, and what to do about it. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imagewright.contract.sources import DOCKER_CONFIG_KEY
from imagewright.errors import Reason

_STARTS = "the build then starts by itself, without a rebuild"
_ABSENT = re.compile(r'(secret|configmap)s? "([^"]*)" not found', re.I)
_VOLUME_LACKS_KEY = re.compile(r"references non-existent (secret|config(?: ?map)?) key: *(\S+)", re.I)
_VARIABLE_LACKS_KEY = re.compile(r"couldn't find key (\S+) in (Secret|ConfigMap) [^\s/]+/(\S+)")
_REASONS = {"secret": Reason.SECRET_NOT_FOUND, "configMap": Reason.CONFIG_MAP_NOT_FOUND}


def missing_object(pod: Mapping[str, Any], words: str, volume: str = "") -> tuple[str, str, bool] | None:
    """Reason, message and ``True``, for: it starts as soon as that exists. None if the words tell of nothing missing.

    ``volume`` is the name of the Pod's volume that they are about: where a key is missing, they name no object.
    """
    if absent := _ABSENT.search(words):
        kind, name = _kind(absent[1]), absent[2]
        return _REASONS[kind], f'{kind.lower()} "{name}" not found: {_creation(pod, kind, name)}; {_STARTS}', True
    if lacking := _VARIABLE_LACKS_KEY.search(words):
        key, kind, names = lacking[1], _kind(lacking[2]), [lacking[3]]
    elif lacking := _VOLUME_LACKS_KEY.search(words):
        kind, key = _kind(lacking[1]), lacking[2]
        names = [name for one, name, keys in objects_of(volume_of(pod, volume)) if one == kind and key in keys]
        names = list(dict.fromkeys(names))
    else:
        return None
    remedy = "add the key"
    if kind == "secret" and key == DOCKER_CONFIG_KEY and len(names) == 1:
        remedy = (
            'its type is not "kubernetes.io/dockerconfigjson", which a login must have, but another, such as "Opaque"; '
            f"replace it: kubectl delete secret {names[0]}{_namespace_flag(pod)} && {_login_command(pod, names[0])}"
        )
    return _REASONS[kind], f'{_subject(kind, names)} has no key "{key}": {remedy}; {_STARTS}', True


def volume_of(pod: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The Pod's volume with this name, {} if there is none."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    return next((one for one in volumes if one.get("name") == name), {})


def objects_of(volume: Mapping[str, Any]) -> list[tuple[str, str, list[str]]]:
    """The Secrets and ConfigMaps of a volume: ``secret`` or ``configMap``, name, and the keys that it takes by name."""
    found = []
    for source in (volume, *((volume.get("projected") or {}).get("sources") or [])):
        for kind in _REASONS:
            if one := source.get(kind):
                keys = [item.get("key") or "" for item in one.get("items") or []]
                found.append((kind, one.get("secretName") or one.get("name") or "", keys))
    return found


def _kind(word: str) -> str:
    return "secret" if word.lower() == "secret" else "configMap"


def _subject(kind: str, names: list[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    if len(names) == 1:
        return f"{kind.lower()} {quoted}"
    return f"one of the {kind.lower()}s {quoted}" if names else f"a {kind.lower()}"


def _creation(pod: Mapping[str, Any], kind: str, name: str) -> str:
    """How to create a Secret or ConfigMap that is not there; by a command if it can only be a login."""
    volumes = (pod.get("spec") or {}).get("volumes") or []
    wanted = [keys for volume in volumes for one, named, keys in objects_of(volume) if (one, named) == (kind, name)]
    if kind == "secret" and wanted and all(keys == [DOCKER_CONFIG_KEY] for keys in wanted):
        return f"create it: {_login_command(pod, name)}"
    namespace = pod["metadata"].get("namespace")
    return f'create it in namespace "{namespace}"' if namespace else "create it"


def _login_command(pod: Mapping[str, Any], name: str) -> str:
    return (
        f"kubectl create secret docker-registry {name}{_namespace_flag(pod)} "
        "--docker-server=HOST --docker-username=USER --docker-password=PASSWORD"
    )


def _namespace_flag(pod: Mapping[str, Any]) -> str:
    namespace = pod["metadata"].get("namespace")
    return f" -n {namespace}" if namespace else ""
