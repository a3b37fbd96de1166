"""Pods that run kaniko, as text: what ``kubectl imagewright create --from`` is given.

No I/O.
"""

from __future__ import annotations

from typing import Any

import yaml

GIT = "--context=git://git.example.com/team/app.git#refs/heads/main"


def pod(*args: str, **container: Any) -> str:
    """A Pod of kaniko's; ``volumes`` and ``pod`` are the Pod's, the rest is the container's."""
    volumes, more = container.pop("volumes", []), container.pop("pod", {})
    image = "gcr.io/kaniko-project/executor:v1.23.2"
    main = {"name": "kaniko", "image": image, "args": ["--destination=registry.example.com/app:1", *args], **container}
    body = {"kind": "Pod", "metadata": {"name": "build"}, "spec": {"containers": [main], "volumes": volumes, **more}}
    return yaml.safe_dump(body)


def mounted(path: str, **volume: Any) -> dict[str, Any]:
    """A container's and a Pod's entry for one volume."""
    return {"volumeMounts": [{"name": "v", "mountPath": path}], "volumes": [{"name": "v", **volume}]}


def from_secret(name: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
