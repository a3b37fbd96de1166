"""The base images that Dockerfiles name, pushed to the open test registry as ``library/NAME:TAG``.

What each image holds is made by ``rootfs``; this module says which there are, with which configuration and tags.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cluster import rootfs
from cluster.machine import this_machine
from cluster.progress import step
from cluster.push import Image, Registry
from cluster.toolchain import find_go, goroot, version_of

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
GO_CONFIG: Mapping[str, Any] = {
    "Env": [f"PATH=/go/bin:/usr/local/go/bin:{SYSTEM_PATH}", "GOPATH=/go", "GOTOOLCHAIN=local"],
    "WorkingDir": "/go",
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class BaseImage:
    name: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]  # recipes of ``rootfs``, base first
    config: Mapping[str, Any] = field(default_factory=dict)


def catalogue(go_version: str) -> list[BaseImage]:
    """Every image; ``go_version`` is the one of this machine, such as "1.26"."""
    shell = {"Env": [f"PATH={SYSTEM_PATH}"]}
    debian_tags = ("latest", "trixie", "trixie-slim", "stable-slim", "13", "13-slim")
    python_tags = ("latest", "3", "3.13", "slim", "3-slim", "3.13-slim", "3.13-trixie")
    go_tags = ("latest", "1", go_version, f"{go_version}-trixie", "trixie")
    return [
        BaseImage("busybox", ("latest", "1", "1.37", "stable"), ("busybox",), {**shell, "Cmd": ["sh"]}),
        BaseImage("alpine", ("latest", "3", "3.22"), ("alpine",), {**shell, "Cmd": ["/bin/sh"]}),
        BaseImage("debian", debian_tags, ("debian",), {**shell, "Cmd": ["bash"]}),
        BaseImage("python", python_tags, ("python",), {**shell, "Cmd": ["python3"]}),
        BaseImage("golang", go_tags, ("debian", "go"), {**GO_CONFIG, "Cmd": ["bash"]}),
        BaseImage("golang", ("alpine", "1-alpine", f"{go_version}-alpine"), ("alpine", "go"), GO_CONFIG),
    ]


def publish(registry_address: str, before: str) -> str:
    """Make what isn't in the cache, two at a time, and push it. A minute the first time.

    Gives what it pushed, in a form that a later call takes as ``before``: then nothing is pushed that is there.
    """
    go = find_go()
    version = version_of(go)
    machine = this_machine(go)
    go_recipe = rootfs.go_tree(goroot(go))
    inputs = {"go": {"version": ".".join(map(str, version))}}
    recipes = {r.__name__: r for r in (rootfs.debian, rootfs.python, rootfs.busybox, rootfs.alpine, go_recipe)}
    with ThreadPoolExecutor(max_workers=2) as pool:
        making = {n: pool.submit(partial(rootfs.layer, r, machine, inputs.get(n, {}))) for n, r in recipes.items()}
        layers = {name: future.result() for name, future in making.items()}
    architecture = ARCHITECTURES[os.uname().machine]
    registry = Registry(registry_address)
    images = catalogue(".".join(map(str, version[:2])))
    digests = {name: layer.digest for name, layer in layers.items()}
    outcome = hashlib.sha256(f"{images} {sorted(digests.items())}".encode()).hexdigest()
    if outcome == before:
        return outcome
    with step("Pushing the base images to the test registry", "a few seconds"):
        for image in images:
            content = Image(tuple(layers[name] for name in image.layers), image.config, architecture)
            registry.push(content, f"library/{image.name}", image.tags)
    return outcome
