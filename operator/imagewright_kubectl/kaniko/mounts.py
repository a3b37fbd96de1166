"""What is behind a path in the container: a Secret's key, a ConfigMap's, a claim's folder, or nothing that stays.

No I/O. Called by ``conversion`` and ``surroundings``. Remembers which mounts a field of the ImageBuild now stands for.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


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
