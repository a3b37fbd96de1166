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
from servers.git import GitServer, GitServerOptions
from servers.repository import Repository


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
def git_server(cluster: Cluster, tmp_path: Path) -> Iterator[Callable[..., GitServer]]:
    """Starts git servers that the cluster's Pods reach over https."""
    started: list[GitServer] = []

    def start(username: str = "", password: str = "") -> GitServer:
        folder = tmp_path / f"git-{len(started)}"
        options = GitServerOptions(
            folder / "repositories",
            folder / "state",
            hosts=(cluster.host_address,),
            bind=cluster.host_address,
            username=username,
            password=password,
        )
        for path in (options.root, options.state):
            path.mkdir(parents=True)
        started.append(GitServer(options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def git_source(
    builds: Namespace, git_server: Callable[..., GitServer]
) -> Callable[..., tuple[Repository, dict[str, Any]]]:
    """Makes an empty repository on a server of its own; the repository, and the source that names it and its Secret.

    The Secret has the server's CA, and the login where the server wants one.
    """

    def make(username: str = "", password: str = "") -> tuple[Repository, dict[str, Any]]:
        server = git_server(username, password)
        given = [f"--from-literal=username={username}", f"--from-literal=password={password}"] if username else []
        builds.kubectl("create", "secret", "generic", "git-login", f"--from-file=ca.crt={server.ca_file}", *given)
        source = {"url": server.url("team/app.git"), "ref": {"branch": "main"}, "secretRef": {"name": "git-login"}}
        return server.repository("team/app.git"), source

    return make


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
