"""A second cluster next to the tests' own: coming up is idempotent, going down leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.client import Cluster
from cluster.lifecycle import down, up
from cluster.mounts import cgroup_folders
from cluster.places import ClusterError, Places
from cluster.processes import Processes, eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Places]:
    places = Places(name="second", number=(cluster.places.number + 100) % 256)
    down(places)
    yield places
    down(places)


def processes_of(places: Places) -> list[str]:
    """The command line of every process that names the cluster's state or lives in its cgroups."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if f"{places.state}" in command or f"/{places.cgroup}" in groups:
            found.append(command)
    return found


def pids(places: Places) -> dict[str, int]:
    return {name: status.pid for name, status in Processes(places).status().items()}


def traces_of(places: Places) -> dict[str, object]:
    """All that is on the machine because of this cluster."""
    interfaces = Path("/sys/class/net")
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found: dict[str, object] = {
        "processes": processes_of(places),
        "mounts": [line for line in mounts if str(places.state) in line],
        "interfaces": [path.name for path in interfaces.iterdir() if path.name == places.host_interface],
        "tables": [line for line in tables.splitlines() if line.split()[-1] == places.host_interface],
        "cgroups": [path for path in cgroup_folders(places.cgroup) if path.exists()],
        "state": [places.state] if places.state.exists() else [],
    }
    return {name: value for name, value in found.items() if value}


KERNEL_SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "vm/panic_on_oom")


def test_up_starts_only_what_is_not_running(second: Places) -> None:
    kernel = {name: Path("/proc/sys", name).read_text() for name in KERNEL_SETTINGS}
    up(second)
    first = pids(second)
    up(second)
    assert pids(second) == first
    Cluster(second).component("kube-scheduler").kill()
    up(second)
    now = pids(second)
    assert {name for name in now if now[name] != first[name]} == {"kube-scheduler"}
    assert Cluster(second).run_pod("works", "busybox", ["echo", "fine"]) == "fine\n"
    assert {name: Path("/proc/sys", name).read_text() for name in KERNEL_SETTINGS} == kernel


def test_two_clusters_are_independent(cluster: Cluster, second: Places) -> None:
    up(second)
    other = Cluster(second)
    other.kubectl("create", "namespace", "only-here")
    assert "only-here" not in cluster.kubectl("get", "namespaces")
    assert other.run_pod("here", "busybox", ["echo", "second"]) == "second\n"


def test_down_leaves_nothing(second: Places) -> None:
    up(second)
    cluster = Cluster(second)
    server = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server"},
        "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sleep", "1000000"]}]},
    }
    cluster.apply(server)
    cluster.kubectl("wait", "pod/server", "--for=condition=Ready", "--timeout=60s")
    assert set(traces_of(second)) >= {"processes", "interfaces", "tables", "cgroups", "state"}
    down(second)
    assert traces_of(second) == {}
    down(second)  # again: not an error


def test_killing_the_supervisor_ends_everything(second: Places) -> None:
    up(second)
    os.kill(Processes(second).supervisor_pid(), signal.SIGKILL)
    eventually(lambda: processes_of(second) == [], "every process to end")
    with pytest.raises(ClusterError, match="the cluster isn't up"):
        Processes(second).status()
    up(second)
    assert Cluster(second).run_pod("works", "busybox", ["echo", "again"]) == "again\n"


def test_a_number_in_use_by_another_cluster_is_refused(cluster: Cluster, second: Places) -> None:
    with pytest.raises(ClusterError, match=f"the cluster {cluster.places.name} has number {cluster.places.number}"):
        up(Places(name="third", number=cluster.places.number))
    down(Places(name="third", number=cluster.places.number))
    assert cluster.node in cluster.kubectl("get", "nodes")  # its network is as it was
