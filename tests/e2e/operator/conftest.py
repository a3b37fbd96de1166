"""An operator as a process beside the cluster for each test, and the executor image that the engine built itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster.client import Cluster
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator, operators_in
from quickstart.images import ROOT


@pytest.fixture(scope="session")
def build_settings(cluster: Cluster) -> dict[str, str]:
    """Settings of an operator whose builds work on this cluster."""
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
