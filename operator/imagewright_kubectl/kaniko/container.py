"""A container's environment and volume mounts: the values, Secrets, ConfigMaps and claims behind a name or a path.

No I/O. Both classes record what the conversion has used; ``podsettings`` keeps the rest in ``podTemplate``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imagewright_kubectl.kaniko.diagnostics import Diagnostics

Json = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)|\{\{[^{}]*\}\}")  # the kubelet's and Tekton's; Argo's


class Environment:
    """The variables of ``env``: ``values`` from the manifest, ``references`` to Secrets and ConfigMaps."""

    def __init__(self, container: Mapping[str, Any], diagnostics: Diagnostics) -> None:
        self.values: dict[str, str] = {}
        self.references: dict[str, Json] = {}
        self.used: set[str] = set()
        self._diagnostics = diagnostics
        for variable in container.get("env") or ():
            name = str(variable.get("name"))
            if variable.get("valueFrom"):
                self.references[name] = variable["valueFrom"]
            else:
                self.values[name] = self._expand(str(variable.get("value") or ""))[0]
        for source in container.get("envFrom") or ():
            name = (source.get("configMapRef") or source.get("secretRef") or {}).get("name", "")
            diagnostics.error(
                "envFrom", f'envFrom "{name}": its variables are unknown: list those that the build needs in env'
            )

    def expand(self, words: list[str]) -> list[str]:
        """Arguments as the kubelet passes them on, without those of unknown value that the user drops."""
        expanded, flag = [], ""
        for word in words:
            name = word.partition("=")[0] if word.startswith("-") else flag or word
            text, unresolved = self._expand(word)
            if unresolved and name == word and self._diagnostics.is_dropped(word):
                continue
            if unresolved:
                self._report_unresolved(name.lstrip("-"), unresolved)
            expanded.append(text)
            flag = word if word.startswith("-") and "=" not in word else ""
        return expanded

    def _expand(self, text: str) -> tuple[str, str]:
        """The expanded text, and the last reference without a value, which stays as it is."""
        unresolved = ""

        def replacement(found: re.Match[str]) -> str:
            nonlocal unresolved
            if found[0] == "$$":
                return "$"
            if found[1] is None or found[1] not in self.values:
                unresolved = found[0]
                return found[0]
            self.used.add(found[1])
            return self.values[found[1]]

        return _REFERENCE.sub(replacement, text), unresolved

    def _report_unresolved(self, name: str, reference: str) -> None:
        variable = reference[2:-1]
        if variable in self.references:
            self.used.add(variable)
            problem = f"the value of {variable} is in a Secret or ConfigMap"
        else:
            problem = f"the manifest has no value for {reference}"
        self._diagnostics.missing(name, f"{name}: {problem}: write the value, or use a flag of create for this field")


@dataclass(frozen=True, slots=True)
class Mount:
    """An entry of ``volumeMounts`` with its volume. ``path`` is normalised."""

    path: str
    sub_path: str
    volume: Json

    @property
    def name(self) -> str:
        """The volume's."""
        return str(self.volume.get("name"))

    @property
    def type(self) -> str:
        """``secret``, ``emptyDir``, …; "" where the manifest doesn't have the volume."""
        return next((key for key in self.volume if key != "name"), "")

    def path_in_volume(self, path: str) -> str:
        """A path of the container, relative to the volume's root; "" is the root."""
        rest = path[len(self.path) :].strip("/")
        joined = posixpath.normpath(posixpath.join(self.sub_path.strip("/"), rest)) if self.sub_path or rest else ""
        return "" if joined == "." else joined


@dataclass(frozen=True, slots=True)
class ClaimPath:
    """A path of the container on a PersistentVolumeClaim: below ``sub_path``, which is mounted, at ``directory``."""

    claim: str
    sub_path: str
    directory: str

    @property
    def is_root(self) -> bool:
        """Whether it is the root of the volume."""
        return not self.sub_path and not self.directory


class Mounts:
    """The container's mounts; ``used`` has the paths of those that a field of the spec replaces."""

    def __init__(self, container: Mapping[str, Any], volumes: Iterable[Json]) -> None:
        by_name = {volume.get("name"): volume for volume in volumes}
        self.all = [
            Mount(
                path="/" + posixpath.normpath(str(mount.get("mountPath") or "/")).lstrip("/"),
                sub_path=str(mount.get("subPath") or ""),
                volume=by_name.get(mount.get("name")) or {"name": mount.get("name")},
            )
            for mount in container.get("volumeMounts") or ()
        ]
        self.used: set[str] = set()

    def innermost(self, path: str) -> Mount | None:
        """The innermost mount that contains a path."""
        around = [mount for mount in self.all if path == mount.path or path.startswith(mount.path.rstrip("/") + "/")]
        return max(around, key=lambda mount: len(mount.path), default=None)

    def secret_key(self, path: str) -> Json | None:
        """The reference to the Secret's key behind this file."""
        return self._key(path, "secret", "secretName")

    def config_map_key(self, path: str) -> Json | None:
        """The reference to the ConfigMap's key behind this file."""
        return self._key(path, "configMap", "name")

    def config_map(self, path: str) -> str | None:
        """The name of the ConfigMap that is mounted as this directory as a whole."""
        mount = self.innermost(path)
        source = mount.volume.get("configMap") if mount is not None else None
        if mount is None or not source or source.get("items") or mount.path_in_volume(path):
            return None
        self.used.add(mount.path)
        name: str = source.get("name", "")
        return name

    def claim(self, path: str) -> ClaimPath | None:
        """The claim behind this path."""
        mount = self.innermost(path)
        source = mount.volume.get("persistentVolumeClaim") if mount is not None else None
        if mount is None or not source:
            return None
        self.used.add(mount.path)
        return ClaimPath(source.get("claimName", ""), mount.sub_path.strip("/"), path[len(mount.path) :].strip("/"))

    def _key(self, path: str, volume_type: str, name_field: str) -> Json | None:
        mount = self.innermost(path)
        if mount is None:
            return None
        for source in _sources(mount.volume, volume_type):
            inside = mount.path_in_volume(path)
            items = source.get("items")
            keys = [item.get("key") for item in items if item.get("path") == inside] if items else [inside]
            if keys and keys[0] and "/" not in keys[0]:
                self.used.add(mount.path)
                return {"name": source.get(name_field) or source.get("name", ""), "key": keys[0]}
        return None


def _sources(volume: Json, volume_type: str) -> list[Json]:
    """The volume's source where it is of this type, or those of this type that it projects."""
    if volume.get(volume_type):
        return [volume[volume_type]]
    projected = (volume.get("projected") or {}).get("sources") or ()
    return [source[volume_type] for source in projected if source.get(volume_type)]
