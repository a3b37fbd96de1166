"""What a container's environment and mounts stand for: values, Secrets, ConfigMaps, PersistentVolumeClaims.

No I/O. Both classes record what the conversion has used, so that the rest can be kept in ``podTemplate``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imagewright_kubectl.kaniko.diagnostics import Problems

Json = dict[str, Any]

_REFERENCE = re.compile(r"\$\$|\$\(([^()]*)\)|\{\{[^{}]*\}\}")  # the kubelet's, and Tekton's; Argo's


class Variables:
    """What ``env`` says. Remembers which are used in the arguments."""

    def __init__(self, container: Mapping[str, Any], problems: Problems) -> None:
        self.plain: dict[str, str] = {}
        self.references: dict[str, Json] = {}
        self.used: set[str] = set()
        self._problems = problems
        for one in container.get("env") or ():
            name = str(one.get("name"))
            if one.get("valueFrom"):
                self.references[name] = one["valueFrom"]
            else:
                self.plain[name] = self._known(str(one.get("value") or ""))[0]
        for one in container.get("envFrom") or ():
            source = (one.get("configMapRef") or one.get("secretRef") or {}).get("name", "")
            problems.add(
                "envFrom", f"envFrom: what {source} holds can't be seen from here: name the variables that count in env"
            )

    def expand(self, words: list[str]) -> list[str]:
        """Arguments as the kubelet hands them over, without those that can't be known and are dropped."""
        expanded, flag = [], ""
        for word in words:
            name = word.partition("=")[0] if word.startswith("-") else flag or word
            text, unknown = self._known(word)
            if unknown and name == word and self._problems.is_dropped(word):
                continue
            if unknown:
                self._unknown(name.lstrip("-"), unknown)
            expanded.append(text)
            flag = word if word.startswith("-") and "=" not in word else ""
        return expanded

    def _known(self, text: str) -> tuple[str, str]:
        """With the values that are written down in place of their names, and the last name that has none; it stays."""
        unknown = ""

        def one(found: re.Match[str]) -> str:
            nonlocal unknown
            if found[0] == "$$":
                return "$"
            if found[1] is None or found[1] not in self.plain:
                unknown = found[0]
                return found[0]
            self.used.add(found[1])
            return self.plain[found[1]]

        return _REFERENCE.sub(one, text), unknown

    def _unknown(self, name: str, written: str) -> None:
        variable = written[2:-1]
        if variable in self.references:
            self.used.add(variable)
            what = f"the value of {variable} is in a Secret or ConfigMap"
        else:
            what = f"{written} stands for something that the manifest doesn't say"
        self._problems.must(f"{name}: {what}: write its value, or give the field as a flag of create", name)


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of volumeMounts with its volume."""

    path: str
    sub_path: str
    volume: Json

    @property
    def kind(self) -> str:
        """``secret``, ``emptyDir``, …; "" where the manifest doesn't show the volume."""
        return next((key for key in self.volume if key != "name"), "")

    def inside(self, path: str) -> str:
        """A path of the container as one of the volume; "" is its root."""
        rest = path[len(self.path) :].strip("/")
        joined = posixpath.normpath(posixpath.join(self.sub_path.strip("/"), rest)) if self.sub_path or rest else ""
        return "" if joined == "." else joined


class Mounts:
    """The container's mounts."""

    def __init__(self, container: Mapping[str, Any], volumes: Iterable[Json]) -> None:
        by_name = {volume.get("name"): volume for volume in volumes}
        self.all = [
            Mount(
                path="/" + posixpath.normpath(str(one.get("mountPath") or "/")).lstrip("/"),
                sub_path=str(one.get("subPath") or ""),
                volume=by_name.get(one.get("name")) or {"name": one.get("name")},
            )
            for one in container.get("volumeMounts") or ()
        ]
        self.used: set[str] = set()

    def at(self, path: str) -> Mount | None:
        """The innermost mount that a path is in."""
        around = [one for one in self.all if path == one.path or path.startswith(one.path.rstrip("/") + "/")]
        return max(around, key=lambda one: len(one.path), default=None)

    def secret_key(self, path: str) -> Json | None:
        """The Secret's key that is this file."""
        return self._key(path, "secret", "secretName")

    def config_map_key(self, path: str) -> Json | None:
        """The ConfigMap's key that is this file."""
        return self._key(path, "configMap", "name")

    def config_map(self, path: str) -> str | None:
        """The ConfigMap that is this folder, whole."""
        mount = self.at(path)
        source = mount.volume.get("configMap") if mount is not None else None
        if mount is None or not source or source.get("items") or mount.inside(path):
            return None
        self.used.add(mount.path)
        name: str = source.get("name", "")
        return name

    def claim(self, path: str) -> tuple[str, str, str] | None:
        """A claim, the folder of it that is mounted, and this path below that."""
        mount = self.at(path)
        source = mount.volume.get("persistentVolumeClaim") if mount is not None else None
        if mount is None or not source:
            return None
        self.used.add(mount.path)
        return source.get("claimName", ""), mount.sub_path.strip("/"), path[len(mount.path) :].strip("/")

    def _key(self, path: str, kind: str, name_field: str) -> Json | None:
        mount = self.at(path)
        if mount is None:
            return None
        for source in _sources(mount.volume, kind):
            inside = mount.inside(path)
            items = source.get("items")
            keys = [one.get("key") for one in items if one.get("path") == inside] if items else [inside]
            if keys and keys[0] and "/" not in keys[0]:
                self.used.add(mount.path)
                return {"name": source.get(name_field) or source.get("name", ""), "key": keys[0]}
        return None


def _sources(volume: Json, kind: str) -> list[Json]:
    """The sources of this kind: the volume itself, or those that it projects."""
    if volume.get(kind):
        return [volume[kind]]
    projected = (volume.get("projected") or {}).get("sources") or ()
    return [source[kind] for source in projected if source.get(kind)]
