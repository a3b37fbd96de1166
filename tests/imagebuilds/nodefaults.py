"""Faults of a node, done for real: given up by a controller manager that is less patient, and short of memory.

I/O: restarts the cluster's controller manager, writes limits of control groups, runs kubectl. Everything is as it was
when the block that asked for it is left.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cluster.client import Cluster
from cluster.components import Configuration
from imagebuilds.waiting import eventually

CGROUPS = Path("/sys/fs/cgroup")
LEASES = "kube-node-lease"
_MANAGER = "kube-controller-manager"


@contextmanager
def impatient_controllers(cluster: Cluster) -> Iterator[None]:
    """A node counts as unreachable after 12 seconds instead of 50: the kubelet renews its lease every ten at the
    latest.
    """
    known = Configuration(cluster.places, cluster.programs).components()[_MANAGER]
    flags = ("--node-monitor-grace-period=12s", "--node-monitor-period=1s")
    component = cluster.component(_MANAGER)
    component.kill()
    try:
        cluster.processes.start(_MANAGER, (*known.argv, *flags), known.environment)
        yield
    finally:
        component.kill()
        cluster.processes.start(_MANAGER, known.argv, known.environment)


@contextmanager
def another_node(cluster: Cluster, name: str = "node2") -> Iterator[None]:
    """A node that is alive, and takes no Pods: of a cluster whose nodes are all silent Kubernetes gives up none."""
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}})
    ended = threading.Event()
    beats = threading.Thread(target=_beat, args=(cluster, name, ended))
    try:
        ready = {
            "type": "Ready",
            "status": "True",
            "reason": "KubeletReady",
            "message": "",
            "lastHeartbeatTime": _now(),
        }
        patch = json.dumps({"status": {"conditions": [{**ready, "lastTransitionTime": _now()}]}})
        cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", f"--patch={patch}")
        beats.start()
        yield
    finally:
        ended.set()
        if beats.ident is not None:
            beats.join()
        cluster.try_kubectl("delete", "node", name)
        cluster.try_kubectl("delete", "lease", name, f"--namespace={LEASES}")


def _beat(cluster: Cluster, name: str, ended: threading.Event) -> None:
    lease: dict[str, Any] = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
    while True:
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _now(".000000Z")}
        given = {**lease, "metadata": {"name": name, "namespace": LEASES}, "spec": spec}
        cluster.try_kubectl("apply", "--filename=-", stdin=json.dumps(given))
        if ended.wait(2):
            return


def _now(end: str = "Z") -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + end


class PodMemory:
    """The memory of all Pods of the node together, as the kubelet bounds it where it enforces a node's allocatable."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.unified = (CGROUPS / "cgroup.controllers").exists()
        top = CGROUPS if self.unified else CGROUPS / "memory"
        self._folder = top / cluster.places.cgroup / "kubepods"

    def held(self) -> int:
        """Bytes that can't be taken back: all but the cache of files."""
        used = int((self._folder / ("memory.current" if self.unified else "memory.usage_in_bytes")).read_text())
        stat = dict(line.split() for line in (self._folder / "memory.stat").read_text().splitlines())
        prefix = "" if self.unified else "total_"
        return used - sum(int(stat[f"{prefix}{kind}_file"]) for kind in ("active", "inactive"))

    @contextmanager
    def bounded_to(self, spare: int, namespace: str) -> Iterator[None]:
        """No more than ``spare`` bytes in addition to those that the Pods of a namespace hold now: those of earlier
        tests, which give theirs back, have ended.
        """
        eventually(lambda: not self._others(namespace), "the Pods of earlier tests to end")
        limit = self._folder / ("memory.max" if self.unified else "memory.limit_in_bytes")
        before = limit.read_text()
        limit.write_text(str(self.held() + spare))
        try:
            yield
        finally:
            limit.write_text(before)

    def _others(self, namespace: str) -> list[str]:
        pods = self._cluster.json("get", "pods", "--all-namespaces")["items"]
        places = [pod["metadata"]["namespace"] for pod in pods]
        return [place for place in places if place.startswith("test-") and place != namespace]


def power_cut(cluster: Cluster, pod_uid: str) -> None:
    """All of a node's processes that matter to a Pod end at once, without a word; then the node starts again."""
    kubelet, containerd = cluster.component("kubelet"), cluster.component("containerd")
    kubelet.kill()
    containerd.kill()
    try:
        of_pod = _pids_of(lambda process: pod_uid in (process / "cgroup").read_text())
        shims = {int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1]) for pid in of_pod}
        for pid in shims & set(_pids_of(lambda process: "containerd-shim" in (process / "cmdline").read_text())):
            os.kill(pid, signal.SIGKILL)
        for pid in of_pod:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    finally:
        containerd.start()
        kubelet.start()


def _pids_of(check: Callable[[Path], bool]) -> list[int]:
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):  # it has ended meanwhile
            if process.name.isdecimal() and check(process):
                found.append(int(process.name))
    return found


def is_gone(cluster: Cluster, container_id: str) -> None:
    """Wait until the runtime runs no container of this ID (as a Pod's status has it)."""
    bare = container_id.rpartition("/")[2]
    eventually(lambda: bare not in cluster.container_tool("tasks", "list"), f"container {bare} to end")
