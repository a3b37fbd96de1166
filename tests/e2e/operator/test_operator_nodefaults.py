"""Faults of nodes under a build that runs: deleted, silent, wanted by others, out of memory. All of it real.

There is one node that runs Pods, so each test gives it back: what is tried again can only be built there. The
Dockerfile comes from a ConfigMap, which isn't an input itself: the first attempt takes for ever, the next one doesn't.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster.client import Cluster
from cluster.components import KUBELET_PORT
from imagebuilds.namespace import Namespace
from imagebuilds.nodefaults import PodMemory, another_node, impatient_controllers, is_gone, power_cut
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]

SOURCE = {"configMap": {"name": "files"}}
MI = 1 << 20


@pytest.fixture
def whole_node(cluster: Cluster) -> Iterator[None]:
    """Whatever a test has done to it, the node is there and ready afterwards."""
    yield
    if not cluster.try_kubectl("get", "node", cluster.node).stdout:
        cluster.component("kubelet").restart()
    for name in ("kubelet", "kube-proxy"):  # which ends when its node is deleted
        cluster.component(name).start()


def dockerfile(builds: Namespace, run: str) -> None:
    """What the next attempt builds."""
    data = {"Dockerfile": f"FROM busybox\nRUN {run}\n"}
    content = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}, "data": data}
    builds.kubectl("apply", "--filename=-", given=content)


def runs(builds: Namespace, name: str = "app") -> dict[str, Any]:
    """The Pod, once its RUN has said something."""
    pod = builds.pod(name)
    log = ("logs", pod["metadata"]["name"])
    eventually(lambda: "begun" in builds.try_kubectl(*log).stdout.replace("echo begun", ""), "a RUN that runs")
    return builds.get("pod", pod["metadata"]["name"])


def first_attempt(builds: Namespace, run: str = "echo begun; sleep 600", **spec: Any) -> dict[str, Any]:
    """The Pod of a build that runs ``run``; what is built after it is done in a moment."""
    dockerfile(builds, run)
    builds.apply(source=SOURCE, **spec)
    pod = runs(builds)
    dockerfile(builds, "date >/now")
    return pod


def container_of(pod: dict[str, Any]) -> str:
    statuses = pod["status"]["containerStatuses"]
    return str(next(one for one in statuses if one["name"] == "executor")["containerID"])


def is_built_once(cluster: Cluster, builds: Namespace, attempt: int, name: str = "app") -> None:
    """One build with one digest, which the registry has, after so many attempts; no Pod goes on."""
    status = builds.phase("Succeeded", name)
    assert (status["build"]["number"], status["build"].get("attempt", 1)) == (1, attempt)
    digest = status["image"]["digest"]
    assert [(one["outcome"], one["digest"]) for one in status["history"]] == [("Succeeded", digest)]
    request = urllib.request.Request(f"{cluster.registry.url}/v2/{builds.name}/{name}/manifests/1", method="HEAD")
    request.add_header("Accept", "application/vnd.oci.image.manifest.v1+json")
    with urllib.request.urlopen(request) as answer:
        assert answer.headers["Docker-Content-Digest"] == digest
    assert not [pod for pod in builds.pods(name) if pod["status"]["phase"] not in ("Succeeded", "Failed")]
    assert [one for one in builds.events(name) if one == "BuildRetried"] == ["BuildRetried"] * (attempt - 1)


def test_a_build_on_a_deleted_node_is_retried(
    cluster: Cluster, builds: Namespace, operator: Operator, whole_node: None
) -> None:
    first = first_attempt(builds)
    cluster.kubectl("delete", "node", cluster.node)
    status = builds.becomes("Unknown NodeLost")
    assert "retrying, attempt 2 of 3" in status["conditions"][0]["message"]
    cluster.component("kubelet").restart()
    is_built_once(cluster, builds, attempt=2)
    is_gone(cluster, container_of(first))


def test_builds_on_a_node_that_stops_responding(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], whole_node: None
) -> None:
    """One pushes while nobody hears of it, one still runs as the node comes back: the first counts, the other is
    ended.
    """
    operators(TERMINATION_GRACE_SECONDS="1")
    soon = {
        "key": "node.kubernetes.io/unreachable",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 1,
    }
    with another_node(cluster), impatient_controllers(cluster):
        first = first_attempt(builds, podTemplate={"tolerations": [soon]})
        alone = f'until wget -O- http://{cluster.node_address}:{KUBELET_PORT} 2>&1 | grep -q "can\'t connect"'
        short = {"inline": {"dockerfile": f"FROM busybox\nRUN echo begun; {alone}; do sleep 1; done; date >/now\n"}}
        builds.apply("short", source=short, podTemplate={"tolerations": [soon]})
        runs(builds, "short")
        cluster.component("kubelet").kill()
        for name in ("app", "short"):
            eventually(lambda name=name: "deletionTimestamp" in builds.pods(name)[0]["metadata"], "the taint to evict")
        assert builds.ready() == "Unknown BuildRunning"  # its executor may still push
        cluster.component("kubelet").start()
        builds.becomes("Unknown NodeLost")
        is_built_once(cluster, builds, attempt=2)
        is_built_once(cluster, builds, attempt=1, name="short")
        is_gone(cluster, container_of(first))


def test_a_build_preempted_by_a_pod_of_higher_priority(cluster: Cluster, builds: Namespace, operator: Operator) -> None:
    allocatable = int(cluster.json("get", "node", cluster.node)["status"]["allocatable"]["memory"].removesuffix("Ki"))
    most = {"requests": {"memory": f"{allocatable * 6 // 10}Ki"}}
    first = first_attempt(builds, podTemplate={"resources": most})
    urgent = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": builds.name}}
    cluster.apply({**urgent, "value": 1000, "description": "of a test"})
    try:
        cluster.apply(neighbour(builds.name, "sleep 600", most, priorityClassName=builds.name))
        status = builds.becomes("Unknown PodEvicted")
        assert "preempt" in status["conditions"][0]["message"]
        builds.becomes("False Unschedulable")
        builds.kubectl("delete", "pod", "neighbour", "--grace-period=0", "--force")
    finally:
        cluster.kubectl("delete", "priorityclass", builds.name)
    is_built_once(cluster, builds, attempt=2)
    is_gone(cluster, container_of(first))


def neighbour(namespace: str, command: str, resources: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Another Pod on the build's node."""
    container = {"name": "main", "image": "busybox", "command": ["sh", "-c", command], "resources": resources}
    metadata = {"name": "neighbour", "namespace": namespace}
    pod_spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "restartPolicy": "Never", **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec}


# One process that holds so much, says so, and waits: a pipe takes less than it wants to write.
HOLD = "mkfifo /p; dd if=/dev/zero of=/p bs={size} count=1 & exec 3</p; head -c 1 <&3; echo begun; wait $!"


@pytest.mark.parametrize("outlives", [False, True])
def test_a_build_killed_by_a_neighbours_memory_use_is_retried(
    cluster: Cluster, builds: Namespace, operator: Operator, outlives: bool
) -> None:
    """All Pods together reach the node's memory. It has no limit and is killed as a whole, or is far from its limit and
    the largest process is its RUN's. Another build that fails by itself meanwhile is not taken for one that was killed.
    """
    memory = PodMemory(cluster)
    run = HOLD.format(size=300 * MI) if outlives else "echo begun; sleep 600"
    limits = {"memory": "4Gi"} if outlives else {}
    first_attempt(builds, run, podTemplate={"resources": {"requests": {"memory": "64Mi"}, "limits": limits}})
    if outlives:
        builds.apply("beside", source=fails_when_there_is(f"{cluster.registry.url}/v2/{builds.name}/app/manifests/1"))
        runs(builds, "beside")
    guaranteed = {"cpu": "100m", "memory": "1Gi"}
    with memory.bounded_to(spare=100 * MI, namespace=builds.name):
        cluster.apply(neighbour(builds.name, HOLD.format(size=200 * MI), {"limits": guaranteed}))
        if memory.unified and outlives:  # the kernel kills the whole container, and nobody is left to tell
            builds.becomes("False OutOfMemory")
            return
        status = builds.becomes("Unknown NodeOutOfMemory")
        assert "ran out of memory" in status["conditions"][0]["message"]
    is_built_once(cluster, builds, attempt=2)
    if outlives:
        builds.becomes("False StepFailed", "beside")


def fails_when_there_is(url: str) -> dict[str, Any]:
    get = f"wget -q -O /dev/null --header 'Accept: application/vnd.oci.image.manifest.v1+json' {url}"
    return {"inline": {"dockerfile": f"FROM busybox\nRUN echo begun; until {get}; do sleep 1; done; exit 3\n"}}


def test_a_build_on_a_rebooted_node_is_retried(
    cluster: Cluster, builds: Namespace, operator: Operator, whole_node: None
) -> None:
    """Nobody has seen its end: the runtime finds a container without processes."""
    first = first_attempt(builds)
    power_cut(cluster, first["metadata"]["uid"])
    status = builds.becomes("Unknown NodeLost")
    assert "the node lost the container" in status["conditions"][0]["message"]
    is_built_once(cluster, builds, attempt=2)
