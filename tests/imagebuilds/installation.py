"""The project's own images in the test cluster's registry, settings with which builds work there, and the operator in
it.

I/O: runs the engine and kubectl, by the same code as quickstart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cluster.client import Cluster
from quickstart import install as quickstart
from quickstart.images import TARGETS, Target, publish


def images(cluster: Cluster, names: Sequence[str] = TARGETS) -> dict[str, str]:
    """References by target of the Dockerfile; built if the cluster's registry has none of these sources."""
    host = cluster.registry.host
    flags = (f"--insecure-registry={host}", f"--registry-endpoint=docker.io={host}")
    return publish(Target(f"{host}/imagewright", flags), names)


def image(cluster: Cluster, target: str) -> str:
    """Reference of one of them."""
    return images(cluster, [target])[target]


def registries(cluster: Cluster) -> list[dict[str, object]]:
    """The setting with which builds find the open registry's images under the names that Dockerfiles use."""
    host = cluster.registry.host
    return [{"host": "docker.io", "endpoint": host, "insecure": True}, {"host": host, "insecure": True}]


def settings(cluster: Cluster) -> dict[str, str]:
    """For an operator that runs outside the cluster."""
    return {"EXECUTOR_IMAGE": images(cluster)["executor"], "REGISTRIES": json.dumps(registries(cluster))}


def install(cluster: Cluster) -> None:
    """``kubectl apply -k`` of an overlay of deploy/ as a user would write it; returns when the operator is ready."""
    quickstart.install(cluster.kubectl, images(cluster), {"REGISTRIES": registries(cluster)})


def stop(cluster: Cluster) -> None:
    """An installed operator ends; the CRD and all ImageBuilds stay."""
    where = f"--namespace={quickstart.NAMESPACE}"
    cluster.try_kubectl("scale", where, quickstart.DEPLOYMENT, "--replicas=0")
    cluster.try_kubectl("wait", where, "pod", "--all", "--for=delete", "--timeout=60s")
