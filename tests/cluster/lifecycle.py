"""Bring the cluster up, down, or back to health. The one module that knows the order of things.

``up`` may be called at any time: it starts what doesn't run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from cluster.api import Api
from cluster.binaries import binaries, locked
from cluster.components import PAUSE_IMAGE, Component, Configuration
from cluster.images import publish
from cluster.mounts import IN_MEMORY, remove_cgroups
from cluster.network import connect, disconnect
from cluster.places import NODE_NAME, REGISTRY_PORT, SOURCE, ClusterError, Places
from cluster.processes import Processes, eventually
from cluster.progress import step
from cluster.push import Image, Layer, Registry, answers, folder_layer

FIRST = ("etcd", "registry", "private-registry", "containerd", "kube-apiserver")


def up(places: Places) -> None:
    """Everything runs, the node is ready and takes Pods.

    Raises:
        ClusterError: not root, something missing, or a component that doesn't get ready; the message says which.
    """
    check(places)
    programs = binaries()
    with locked(places.lock):
        fingerprint = places.state / "fingerprint"
        processes = Processes(places)
        wanted = fingerprint_of(programs)
        if not processes.supervisor_pid() or not fingerprint.exists() or fingerprint.read_text() != wanted:
            clear(places)
            if other := holder(places):
                message = f"the cluster {other} has number {places.number}: set IMAGEWRIGHT_CLUSTER={places.name}:N"
                raise ClusterError(message)
            configuration = Configuration(places, programs)
            connect(places, processes.launch())
            configuration.write_all()
            (places.state / "number").write_text(str(places.number))
            fingerprint.write_text(wanted)
        start_missing(places, Configuration(places, programs).components())
        published = places.state / "published"
        before = published.read_text() if published.exists() else ""
        published.write_text(publish(f"{places.node_address}:{REGISTRY_PORT}", before))


def start_missing(places: Places, components: dict[str, Component]) -> None:
    processes = Processes(places)
    status = processes.status()
    missing = [component for name, component in components.items() if name not in status or not status[name].running]
    if not missing and Api(places.kubeconfig).node_ready(NODE_NAME):
        return
    with step("Starting the cluster", "ten seconds"):
        for component in missing:
            if component.name in FIRST:
                processes.start(component.name, component.argv, component.environment)
        api = Api(places.kubeconfig)
        wait(places, "kube-apiserver", api.ready)
        for component in missing:
            if component.name not in FIRST:
                processes.start(component.name, component.argv, component.environment)
        push_pause(places, Path(components["kubelet"].argv[0]).parent)
        wait(places, "kubelet", lambda: api.node_ready(NODE_NAME))
        account = "/api/v1/namespaces/default/serviceaccounts/default"
        wait(places, "kube-controller-manager", lambda: api.exists(account))


def wait(places: Places, component: str, check_ready: Callable[[], bool]) -> None:
    log = places.logs / f"{component}.log"

    def problem() -> str:
        return f"the end of {log}:\n" + "\n".join(log.read_text(errors="replace").splitlines()[-15:])

    eventually(check_ready, f"{component} to be ready", problem=problem)


def push_pause(places: Places, programs: Path) -> None:
    """The image that holds a Pod's namespaces; it lies in the test registry under a name only this cluster resolves."""
    address = f"{places.node_address}:{REGISTRY_PORT}"
    eventually(lambda: answers(address), "the registry to answer")
    layer: Layer = folder_layer({"pause": programs / "pause"})
    name, _, tag = PAUSE_IMAGE.partition("/")[2].partition(":")
    Registry(address).push(Image((layer,), {"Entrypoint": ["/pause"], "User": "65535:65535"}), name, [tag])


def down(places: Places) -> None:
    """Stop and remove what ``up`` made: processes, mounts, network, cgroups, state. The caches stay."""
    if os.geteuid() != 0:
        raise ClusterError("the cluster needs root: run this as root")
    with locked(places.lock):
        clear(places)


def clear(places: Places) -> None:
    Processes(places).end()
    if not holder(places):
        disconnect(places)
    remove_cgroups(places.cgroup)
    if places.state.exists():
        shutil.rmtree(places.state)


def holder(places: Places) -> str:
    """The other running cluster that has the number, and so the addresses, of this one; empty when there is none."""
    for path in places.state.parent.glob("*/number"):
        name = path.parent.name
        other = Places(name=name, number=places.number, cache=places.cache)
        if name != places.name and path.read_text() == str(places.number) and Processes(other).supervisor_pid():
            return name
    return ""


def check(places: Places) -> None:
    if os.geteuid() != 0:
        raise ClusterError("the cluster needs root: run this as root")
    if missing := [program for program in ("ip", "nft", "nsenter") if shutil.which(program) is None]:
        raise ClusterError(f"missing: {', '.join(missing)}: run scripts/setup as root")
    if any(places.state.is_relative_to(path) for path in IN_MEMORY):
        raise ClusterError(f"IMAGEWRIGHT_CACHE may not be below {', '.join(IN_MEMORY)}: the cluster hides those")
    places.state.parent.mkdir(parents=True, exist_ok=True)


def fingerprint_of(programs: Path) -> str:
    """What a running cluster was made by: when that changes, the next ``up`` starts afresh."""
    digest = hashlib.sha256(programs.name.encode())
    for path in sorted(SOURCE.glob("*.py")):
        if path.name in ("components.py", "supervisor.py", "mounts.py", "network.py", "places.py", "certificates.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()
