"""The Pods that the operator makes of ImageBuilds. No I/O."""

from __future__ import annotations

from typing import Any

from imagewright_operator.api import ImageBuild
from imagewright_operator.api.status import Build
from imagewright_operator.pods.manifests import executor_pod
from imagewright_operator.settings import Profile, Settings

INLINE = {"inline": {"dockerfile": "FROM scratch\n"}}


def imagebuild(source: dict[str, Any] = INLINE, **spec: Any) -> ImageBuild:
    spec = {"source": source, "output": {"tags": ["reg.example.com/app:1"]}, **spec}
    return ImageBuild.parse({"metadata": {"name": "app", "namespace": "ns", "uid": "uid-1"}, "spec": spec})


def pod(
    source: dict[str, Any] = INLINE, profile: Profile = Profile.PLAIN, settings: Settings | None = None, **spec: Any
) -> dict[str, Any]:
    build = Build(id="0123abcd", inputs_hash="v1-x", attempt=2)
    return executor_pod(imagebuild(source, **spec), build, settings or Settings(), profile)


def container(made: dict[str, Any], name: str = "executor") -> dict[str, Any]:
    return next(one for one in made["spec"]["containers"] if one["name"] == name)


def environment(made: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container(made)["env"]}


def mounts(made: dict[str, Any]) -> dict[str, Any]:
    volumes = {one["name"]: one for one in made["spec"]["volumes"]}
    return {
        one["mountPath"]: {**volumes[one["name"]], "readOnly": one.get("readOnly", False)}
        for one in container(made)["volumeMounts"]
    }
