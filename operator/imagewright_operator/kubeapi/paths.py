"""Paths of the Kubernetes API (Kubernetes API concepts, "Resource URIs").

No I/O.
"""

from __future__ import annotations

from urllib.parse import quote

from imagewright_operator.api import GROUP, PLURAL, VERSION

LEASES = "coordination.k8s.io/v1"


def imagebuilds(namespace: str = "", name: str = "") -> str:
    """An ImageBuild, those of a namespace, or all."""
    return _path(f"/apis/{GROUP}/{VERSION}", PLURAL, namespace, name)


def core(resource: str, namespace: str = "", name: str = "") -> str:
    """An object of the core group, those of a namespace, or all: ``core("pods", "ns", "app")``."""
    return _path("/api/v1", resource, namespace, name)


def leases(namespace: str, name: str = "") -> str:
    """A Lease, or those of a namespace."""
    return _path(f"/apis/{LEASES}", "leases", namespace, name)


def resource_of(path: str) -> str:
    """``pods``, ``pods/log``, ``imagebuilds/status``, …: without names, so that a metric has few series.

    A path is ``/api/VERSION`` or ``/apis/GROUP/VERSION``, then ``[/namespaces/NAME]/RESOURCE[/NAME[/SUBRESOURCE]]``.
    """
    words = path.split("/")[3 if path.startswith("/api/") else 4 :]
    if words[0] == "namespaces" and len(words) > 2:
        words = words[2:]
    return f"{words[0]}/{words[2]}" if len(words) > 2 else words[0]


def _path(root: str, resource: str, namespace: str, name: str) -> str:
    scope = f"/namespaces/{quote(namespace)}" if namespace else ""
    return f"{root}{scope}/{resource}" + (f"/{quote(name)}" if name else "")
