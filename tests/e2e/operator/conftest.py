"""An operator as a process outside the cluster for each test, and an executor image built by the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.binaries import locked
from cluster.client import Cluster
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator, operators_in
from quickstart.images import ROOT


@pytest.fixture(scope="session")
def build_settings(cluster: Cluster) -> dict[str, str]:
    """Settings of an operator whose builds work on this cluster."""
    with locked(cluster.places.state / "crds.lock"):  # of two workers that apply it at once, one fails
        installation.stop(cluster)  # one that an earlier run has left would serve the tests' namespaces too
        cluster.kubectl("apply", "-k", str(ROOT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd/imagebuilds.imagewright.dev")
    return installation.settings(cluster)


@pytest.fixture
def builds(cluster: Cluster, namespace: str) -> Namespace:
    """ImageBuilds of the test's namespace, pushed to the open registry."""
    return Namespace(cluster.try_kubectl, namespace, registry=cluster.registry.host)


@pytest.fixture
def operators(
    cluster: Cluster, namespace: str, build_settings: dict[str, str], tmp_path: Path
) -> Iterator[Callable[..., Operator]]:
    """Starts operators for the test's namespace."""
    with operators_in(tmp_path) as start:
        yield lambda **more: start(cluster.kubeconfig, **{**build_settings, "NAMESPACES": namespace, **more})


@pytest.fixture
def operator(operators: Callable[..., Operator]) -> Operator:
    return operators()


@pytest.fixture
def claim(cluster: Cluster, builds: Namespace) -> Iterator[str]:
    """A claim bound to a folder of the node."""
    volume: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": builds.name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
            "storageClassName": builds.name,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": f"/tmp/{builds.name}", "type": "DirectoryOrCreate"},
        },
    }
    claimed: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "claimed", "namespace": builds.name},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": builds.name,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    cluster.apply(volume, claimed)
    yield "claimed"
    cluster.try_kubectl("delete", "persistentvolume", builds.name, "--wait=false")
