"""Each component can be killed, frozen and started again, and the cluster recovers: what fault tests stand on."""

from __future__ import annotations

import pytest
from cluster.client import Cluster
from cluster.processes import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]

COMPONENTS = [
    "etcd",
    "registry",
    "private-registry",
    "containerd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
]


def test_every_component_is_known(cluster: Cluster) -> None:
    assert list(cluster.processes.status()) == COMPONENTS


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_killed_component_stays_down_until_it_is_started(cluster: Cluster, namespace: str, name: str) -> None:
    component = cluster.component(name)
    before = component.status
    component.kill()
    try:
        assert (component.status.pid, component.status.exit_code) == (0, -9)
    finally:
        component.start()
    after = component.status
    assert after.starts == before.starts + 1
    assert after.pid not in (0, before.pid)
    assert cluster.run_pod("afterwards", "busybox", ["echo", "fine"], namespace=namespace) == "fine\n"


def test_a_frozen_api_server_answers_nothing(cluster: Cluster) -> None:
    component = cluster.component("kube-apiserver")
    component.freeze()
    try:
        assert component.status.running
        assert cluster.try_kubectl("get", "nodes", "--request-timeout=2s").returncode != 0
    finally:
        component.thaw()
    assert cluster.node in cluster.kubectl("get", "nodes")


def test_a_frozen_kubelet_starts_no_pod(cluster: Cluster, namespace: str) -> None:
    component = cluster.component("kubelet")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "waits", "namespace": namespace},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox", "command": ["true"]}]},
    }
    component.freeze()
    try:
        cluster.apply(pod)
        path = "jsonpath={.spec.nodeName}"
        scheduled = ("get", "pod", "waits", "-n", namespace, "-o", path)
        eventually(lambda: cluster.kubectl(*scheduled) == cluster.node, "the Pod to be scheduled")
        assert cluster.phase("waits", namespace) == "Pending"
    finally:
        component.thaw()
    eventually(lambda: cluster.phase("waits", namespace) == "Succeeded", "the Pod to end")


def test_containers_outlive_their_runtime(cluster: Cluster, namespace: str) -> None:
    script = "trap 'exit 0' TERM; i=0; while true; do i=$((i+1)); echo $i; sleep 0.1; done"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "counts", "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", script]}]},
    }
    cluster.apply(pod)
    cluster.kubectl("wait", "pod/counts", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    for name in ("containerd", "kubelet"):
        cluster.component(name).restart()
    eventually(lambda: "1\n2\n3\n" in cluster.try_kubectl("logs", "counts", "-n", namespace).stdout, "its output")
    path = "jsonpath={.status.containerStatuses[0].restartCount}"
    assert cluster.kubectl("get", "pod", "counts", "-n", namespace, "-o", path) == "0"


def test_an_unknown_component_is_named(cluster: Cluster) -> None:
    with pytest.raises(Exception, match="no component kublet: there are etcd,"):
        _ = cluster.component("kublet").status
