"""Clusters by the tools that this machine has: kind, k3d, minikube and k3s, each with a registry that it pulls from.

Runs these tools and docker. Written against their documentation, and tested with stand-ins of the same interface:

- kind: ``containerdConfigPatches`` and ``hosts.toml`` (its page "Local Registry").
- k3d: ``--registry-config`` (its page "Using Image Registries").
- minikube: ``--insecure-registry`` (its page "Registries", "Enabling Insecure Registries").
- k3s: ``/etc/rancher/k3s/registries.yaml`` (its page "Private Registry Configuration").

The registry is a container that listens on the address of docker's bridge: the only one that this machine, the nodes
(containers themselves) and Pods all reach.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml
from cluster.places import ClusterError, cache_root
from cluster.progress import say, step

NAME = "imagewright-quickstart"
_REGISTRY = f"{NAME}-registry"  # not NAME: minikube calls the container of its node that
_REGISTRY_IMAGE = "registry:2"
_REGISTRY_PORT = 5001
_K3S = Path("/etc/rancher/k3s")


class LocalCluster(Protocol):
    """A way to a cluster."""

    @property
    def name(self) -> str:
        """The program's."""

    def obstacle(self) -> str:
        """Why it can't be used on this machine; empty if it can."""

    def start(self) -> tuple[Path, str]:
        """Its kubeconfig and the HOST of a plain-HTTP registry, both made if they don't exist yet."""

    def delete(self) -> None:
        """Remove the cluster and the registry, if ``start`` made them."""


def choose(wanted: str = "") -> LocalCluster | None:
    """The first tool that this machine has, or the one that is asked for; None is the cluster of our own.

    Says which it is and why.

    Raises:
        ClusterError: the one that is asked for can't be used.
    """
    found = []
    for tool in tools():
        if wanted and tool.name != wanted:
            continue
        obstacle = tool.obstacle()
        if not obstacle:
            say(
                f"Using {tool.name}, which is installed. Another way: --with, or --kubeconfig FILE --registry HOST/REPO"
            )
            return tool
        found.append(f"{tool.name}: {obstacle}")
    if wanted:
        raise ClusterError(f"cannot use {'; '.join(found)}")
    say(f"Starting a cluster of our own, since no other way was found ({'; '.join(found)})")
    return None


def tools() -> tuple[LocalCluster, ...]:
    """All of them, the quickest first."""
    return Kind(), K3d(), Minikube(), K3s()


class Kind:
    name = "kind"

    def obstacle(self) -> str:
        return _missing("kind") or _no_docker()

    def start(self) -> tuple[Path, str]:
        host = _start_registry()
        kubeconfig = _folder() / "kind.kubeconfig"
        if NAME not in _run("kind", "get", "clusters").split():
            with step("Creating a kind cluster", "a minute"):
                _run("kind", "create", "cluster", "--name", NAME, "--config", "-", "--wait", "120s", stdin=_KIND_CONFIG)
        kubeconfig.write_text(_run("kind", "get", "kubeconfig", "--name", NAME))
        folder = f"/etc/containerd/certs.d/{host}"
        for node in _run("kind", "get", "nodes", "--name", NAME).split():
            _run("docker", "exec", node, "mkdir", "-p", folder)
            hosts = f'server = "http://{host}"\n'
            _run("docker", "exec", "-i", node, "cp", "/dev/stdin", f"{folder}/hosts.toml", stdin=hosts)
        return kubeconfig, host

    def delete(self) -> None:
        _run("kind", "delete", "cluster", "--name", NAME)
        _remove_registry()


# Needed before kind 0.27, harmless since: nodes read certs.d.
_KIND_CONFIG = """kind: Cluster
apiVersion: kind.x-k8s.io/v1alpha4
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
"""


class K3d:
    name = "k3d"

    def obstacle(self) -> str:
        return _missing("k3d") or _no_docker()

    def start(self) -> tuple[Path, str]:
        host = _start_registry()
        registries = _folder() / "registries.yaml"
        registries.write_text(json.dumps({"mirrors": {host: {"endpoint": [f"http://{host}"]}}}))
        if NAME not in [cluster["name"] for cluster in json.loads(_run("k3d", "cluster", "list", "-o", "json"))]:
            # The user's own kubeconfig stays as it is.
            flags = ("--kubeconfig-update-default=false", "--kubeconfig-switch-context=false", "--wait")
            with step("Creating a k3d cluster", "a minute"):
                _run("k3d", "cluster", "create", NAME, f"--registry-config={registries}", *flags)
        kubeconfig = _folder() / "k3d.kubeconfig"
        kubeconfig.write_text(_run("k3d", "kubeconfig", "get", NAME))
        return kubeconfig, host

    def delete(self) -> None:
        _run("k3d", "cluster", "delete", NAME)
        _remove_registry()


class Minikube:
    name = "minikube"

    def obstacle(self) -> str:
        return _missing("minikube") or _no_docker()

    def start(self) -> tuple[Path, str]:
        host = _start_registry()
        kubeconfig = _folder() / "minikube.kubeconfig"
        flags = ("--driver=docker", "--container-runtime=containerd", f"--insecure-registry={host}")
        with step("Starting a minikube cluster", "two minutes"):
            _run("minikube", "start", f"--profile={NAME}", *flags, KUBECONFIG=str(kubeconfig))
        return kubeconfig, host

    def delete(self) -> None:
        _run("minikube", "delete", f"--profile={NAME}", KUBECONFIG=str(_folder() / "minikube.kubeconfig"))
        _remove_registry()


@dataclass(frozen=True)
class K3s:
    """The server that runs on this machine. Its settings stay as they are, so a registry has to be in them."""

    folder: Path = _K3S
    name: str = "k3s"

    def obstacle(self) -> str:
        if missing := _missing("k3s"):
            return missing
        if not os.access(self.kubeconfig, os.R_OK):
            return f"cannot read {self.kubeconfig}: it isn't running, or you aren't root"
        try:
            host = self._registry()
        except (OSError, ValueError, yaml.YAMLError) as error:
            return f"cannot read {self.folder / 'registries.yaml'}: {' '.join(str(error).split())}"
        return "" if host else f"no plain-HTTP registry in {self.folder / 'registries.yaml'}"

    def start(self) -> tuple[Path, str]:
        return self.kubeconfig, self._registry()

    def delete(self) -> None:
        """Nothing: cluster and registry were there before."""

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "k3s.yaml"

    def _registry(self) -> str:
        """The first host whose endpoint is itself, over plain HTTP.

        Raises:
            OSError, ValueError, YAMLError: the settings can't be read, or have another form.
        """
        file = self.folder / "registries.yaml"
        settings = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else None
        try:
            mirrors = (settings or {}).get("mirrors") or {}
            for host, mirror in mirrors.items():
                if f"http://{host}" in [url.rstrip("/") for url in (mirror or {}).get("endpoint") or []]:
                    return str(host)
        except (AttributeError, TypeError) as error:
            raise ValueError("mirrors must map each host to its endpoint, a list of URLs") from error
        return ""


def _missing(program: str) -> str:
    return "" if shutil.which(program) else "not installed"


def _no_docker() -> str:
    if not shutil.which("docker"):
        return "docker is not installed"
    done = subprocess.run(["docker", "info"], check=False, capture_output=True, text=True)
    return "" if done.returncode == 0 else "docker's daemon doesn't answer"


def _start_registry() -> str:
    """HOST:PORT of the registry's container, which is started where it doesn't run, with what it holds."""
    if _REGISTRY in _run("docker", "ps", "--all", "--format", "{{.Names}}").split():
        _run("docker", "start", _REGISTRY)  # does nothing if it runs
    else:
        gateway = _run(
            "docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"
        ).strip()
        port = f"{gateway}:{_REGISTRY_PORT}:5000"
        with step("Starting a registry", "seconds"):
            flags = ("--detach", "--restart=always", f"--publish={port}", f"--name={_REGISTRY}")
            _run("docker", "run", *flags, _REGISTRY_IMAGE)
    return _run("docker", "port", _REGISTRY, "5000/tcp").split()[0]


def _remove_registry() -> None:
    if _REGISTRY in _run("docker", "ps", "--all", "--format", "{{.Names}}").split():
        _run("docker", "rm", "--force", "--volumes", _REGISTRY)


def _folder() -> Path:
    folder = cache_root() / "run" / "quickstart-local"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(*command: str, stdin: str | None = None, **environment: str) -> str:
    try:
        done = subprocess.run(
            command, check=False, input=stdin, capture_output=True, text=True, env={**os.environ, **environment}
        )
    except FileNotFoundError:
        raise ClusterError(f"cannot run {command[0]}: not installed") from None
    if done.returncode != 0:
        raise ClusterError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
