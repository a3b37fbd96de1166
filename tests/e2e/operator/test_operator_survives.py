"""The operator and its ImageBuilds on a real cluster: installed by kubectl, killed, and cleaned up."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
from cluster.client import Cluster
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

from imagewright_operator.pods.states import state_of

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]

SLOW = {"inline": {"dockerfile": "FROM busybox\nRUN sleep 4; date >/now\n"}}


@pytest.fixture
def installed(cluster: Cluster, build_settings: dict[str, str]) -> Iterator[None]:
    installation.install(cluster)
    yield
    installation.stop(cluster)


def test_an_operator_installed_by_kubectl_builds_with_its_permissions(
    cluster: Cluster, builds: Namespace, installed: None
) -> None:
    builds.apply(source={"inline": {"dockerfile": "FROM busybox\nRUN date >/now\n"}})
    status = builds.phase("Succeeded")
    assert cluster.run_pod("runs", status["image"]["reference"], ["cat", "/now"], namespace=builds.name)
    assert builds.events() == ["BuildQueued", "BuildStarted", "BuildSucceeded"]
    pods = cluster.json("get", "pods", "--namespace=imagewright-system")["items"]
    (operator,) = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert operator["spec"]["hostUsers"] is False
    assert operator["status"]["containerStatuses"][0]["restartCount"] == 0
    path = f"/api/v1/namespaces/imagewright-system/pods/{operator['metadata']['name']}:8080/proxy"
    assert cluster.kubectl("get", "--raw", f"{path}/healthz") == "ok\n"
    metrics = cluster.kubectl("get", "--raw", f"{path}/metrics")
    assert 'imagewright_builds_total{outcome="Succeeded",reason=""}' in metrics
    account = "system:serviceaccount:imagewright-system:imagewright-operator"
    for what in (
        ("get", "secrets"),
        ("patch", "imagebuilds.imagewright.dev"),
        ("update", "pods"),
        ("create", "pods", "--subresource=exec"),
    ):
        assert cluster.try_kubectl("auth", "can-i", *what, "--all-namespaces", f"--as={account}").stdout == "no\n"


def test_killed_during_the_build_and_after_the_push(builds: Namespace, operators: Callable[..., Operator]) -> None:
    operator = operators()
    builds.apply(source=SLOW)
    builds.phase("Running")
    uid = builds.pods()[0]["metadata"]["uid"]
    operator.kill()
    eventually(lambda: builds.pods()[0]["status"]["phase"] == "Succeeded", "the executor to push without an operator")
    report = json.loads(state_of(builds.pods()[0], "executor")["terminated"]["message"])
    operator.start()
    status = builds.phase("Succeeded")
    assert status["image"]["digest"] == report["digest"]
    assert [pod["metadata"]["uid"] for pod in builds.pods()] == [uid]
    assert status["build"]["number"] == 1


def test_deleting_an_imagebuild_ends_its_pod(builds: Namespace, operator: Operator) -> None:
    builds.apply(source=SLOW)
    builds.phase("Running")
    builds.kubectl("delete", "imagebuild", "app")
    eventually(lambda: not builds.pods(), "no Pod left")


def test_an_evicted_build_is_retried(builds: Namespace, operator: Operator) -> None:
    builds.apply(source={"inline": {"dockerfile": "FROM busybox\nRUN echo words; sleep 20; date >/now\n"}})
    builds.phase("Running")
    name = builds.pods()[0]["metadata"]["name"]
    eventually(lambda: "words" in builds.try_kubectl("logs", name).stdout, "a log")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": builds.name}}
    path = f"/api/v1/namespaces/{builds.name}/pods/{name}/eviction"
    builds.kubectl("create", "--raw", path, "--filename=-", given=eviction)
    eventually(lambda: builds.status()["build"].get("attempt") == 2, "a second attempt")
    status = builds.phase("Succeeded")
    assert status["history"][0]["outcome"] == "Succeeded"
    assert "BuildRetried" in builds.events()


@pytest.mark.parametrize("name", ["kubelet", "containerd", "kube-apiserver", "etcd"])
def test_a_component_that_is_killed_while_it_builds_costs_no_build(
    cluster: Cluster, builds: Namespace, operator: Operator, name: str
) -> None:
    """The executor goes on, and pushes with nobody there to see it; who comes back learns of it."""
    builds.apply(source=SLOW)
    builds.phase("Running")
    component = cluster.component(name)
    component.kill()
    try:
        pushed = f"{cluster.registry.url}/v2/{builds.name}/app/manifests/1"
        eventually(lambda: _is_there(pushed), "the image in the registry")
    finally:
        component.start()
    status = builds.phase("Succeeded")
    assert (status["build"]["number"], status["build"]["attempt"]) == (1, 1)
    assert cluster.run_pod("runs", status["image"]["reference"], ["cat", "/now"], namespace=builds.name)
    assert len(builds.pods()) == 1
    assert builds.events() == ["BuildQueued", "BuildStarted", "BuildSucceeded"]


def _is_there(url: str) -> bool:
    accepted = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD", headers={"Accept": accepted})).close()
    except urllib.error.HTTPError as error:
        error.close()
        return False
    return True


def test_a_cancelled_build_ends_and_its_log_stays(builds: Namespace, operators: Callable[..., Operator]) -> None:
    operators(LOG_REFRESH_SECONDS="1")
    builds.apply(source={"inline": {"dockerfile": "FROM busybox\nRUN echo words; sleep 300\n"}})
    builds.phase("Running")
    eventually(lambda: "words" in builds.status().get("log", {}).get("tail", ""), "what it says while it builds")
    assert builds.status()["build"]["currentStep"] == "[stage-0 2/2] RUN echo words; sleep 300"
    builds.kubectl("patch", "imagebuild", "app", "--type=merge", '--patch={"spec":{"cancelled":true}}')
    status = builds.phase("Cancelled")
    assert "words" in status["log"]["tail"]
    assert "currentStep" not in status["build"]
    eventually(lambda: not builds.pods(), "no Pod left")
