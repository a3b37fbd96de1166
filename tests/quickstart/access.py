"""A cluster and its registry, as the quickstart uses them. Runs kubectl."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cluster.binaries import binaries
from cluster.lifecycle import up
from cluster.places import REGISTRY_PORT, ClusterError, Places, places_from_environment
from quickstart.images import Target


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """How to call kubectl, where images go, and the operator's settings for registries."""

    kubectl: tuple[str, ...]
    target: Target
    registries: tuple[dict[str, object], ...]
    login: Path | None = None  # a config.json for the registry

    def run(self, *words: str, stdin: str | None = None) -> str:
        done = subprocess.run([*self.kubectl, *words], check=False, input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout


def own_places() -> Places:
    """Of the cluster of our own: independent of the tests' cluster, unless ``$IMAGEWRIGHT_CLUSTER`` names that.

    Raises:
        ClusterError: its value names no cluster.
    """
    return places_from_environment("quickstart:1")


def own_access() -> ClusterAccess:
    """Starts a one-node cluster with a registry; compiles Kubernetes the first time."""
    places = own_places()
    up(places)
    host = f"{places.node_address}:{REGISTRY_PORT}"
    flags = (f"--insecure-registry={host}", f"--registry-endpoint=docker.io={host}")
    return ClusterAccess(
        (str(binaries() / "kubectl"), f"--kubeconfig={places.kubeconfig}"),
        Target(f"{host}/imagewright", flags),
        ({"host": host, "insecure": True}, {"host": "docker.io", "mirrors": [host]}),
    )


def given_access(
    kubeconfig: Path, registry: str, *, insecure: bool = False, mirror: str = "", login: Path | None = None
) -> ClusterAccess:
    """A cluster and a registry that exist.

    Args:
        registry: HOST/REPO.
        insecure: the registry speaks plain HTTP.
        mirror: a host to pull Docker Hub's images from, or empty.
        login: a config.json, which the cluster gets a copy of.

    Raises:
        ClusterError: there is no such kubeconfig.
    """
    if not kubeconfig.is_file():
        raise ClusterError(f'cannot read kubeconfig "{kubeconfig}": no such file')
    program = shutil.which("kubectl") or str(binaries() / "kubectl")
    host = registry.partition("/")[0]
    flags: tuple[str, ...] = (f"--insecure-registry={host}",) if insecure else ()
    registries: tuple[dict[str, object], ...] = ({"host": host, "insecure": True},) if insecure else ()
    if mirror:
        flags += (f"--registry-mirror={mirror}",)
        registries += ({"host": "docker.io", "mirrors": [mirror]},)
    return ClusterAccess(
        (program, f"--kubeconfig={kubeconfig.absolute()}"),
        Target(registry, flags),
        registries,
        login,
    )


def users_login() -> Path | None:
    """What docker login has written."""
    file = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    return file if file.is_file() else None
