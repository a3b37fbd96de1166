"""The chart on a real node: two operators that are ready by their probes, of which one works, and a drain takes one at
a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.waiting import eventually
from installing.helm import CHART, Done, Helm

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]


@pytest.fixture
def system(cluster: Cluster, builds: Namespace) -> Iterator[str]:
    """A namespace for the operators of a test, as confined as deploy/ makes its own."""
    name = f"{builds.name}-system"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def evict(cluster: Cluster, namespace: str, pod: str) -> Done:
    """What a drain asks for."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    return cluster.try_kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(body))


def holder(cluster: Cluster, namespace: str, lease: str) -> str:
    """The Pod that holds the lease; "" between two."""
    spec = cluster.json("get", "lease", lease, f"--namespace={namespace}")["spec"]
    return str(spec.get("holderIdentity") or "").partition("_")[0]


def leading(cluster: Cluster, namespace: str, pod: str) -> bool:
    """Whether the Pod itself says that it works."""
    metrics = cluster.try_kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics")
    return "imagewright_leader 1.0" in metrics.stdout


def test_two_operators_of_the_chart_build_once_while_the_leader_is_drained(
    cluster: Cluster, builds: Namespace, build_settings: dict[str, str], system: str, tmp_path: Path
) -> None:
    operator, operator_tag = installation.image(cluster, "operator").rsplit(":", 1)
    executor, executor_tag = build_settings["EXECUTOR_IMAGE"].rsplit(":", 1)
    values: dict[str, Any] = {
        "image": {"repository": operator, "tag": operator_tag},
        "executor": {"image": {"repository": executor, "tag": executor_tag}},
        "namespaces": [builds.name],
        "settings": {"registries": installation.registries(cluster)},
        "replicas": 2,
        "podDisruptionBudget": {"enabled": True},
        "networkPolicy": {"enabled": True},
        "admissionPolicies": {"enabled": True},
        "metrics": {"service": True},
    }
    helm = Helm(cluster.kubeconfig, tmp_path)
    done = helm("install", builds.name, str(CHART), f"--namespace={system}", "--wait", "--timeout=3m", values=values)
    assert done.returncode == 0, done.stderr
    called = f"{builds.name}-imagewright-operator"
    pods = [item["metadata"]["name"] for item in cluster.json("get", "pods", f"--namespace={system}")["items"]]
    assert len(pods) == 2
    first = holder(cluster, system, called)
    pods.sort(key=lambda pod: pod != first)
    assert pods[0] == first
    assert [leading(cluster, system, pod) for pod in pods] == [True, False]

    builds.apply(source={"inline": {"dockerfile": "FROM busybox\nRUN echo built >/built\n"}})
    evicted = [evict(cluster, system, pod) for pod in pods]
    assert [one.returncode == 0 for one in evicted] == [True, False]
    assert "disruption budget" in evicted[1].stderr
    status = builds.phase("Succeeded")
    assert len(builds.pods()) == 1, "by two operators, of which one goes and another comes"
    assert builds.events().count("BuildStarted") == 1
    where = f"/api/v1/namespaces/{system}/services/{called}:http/proxy/metrics"
    assert "imagewright_api_requests_total" in cluster.kubectl("get", "--raw", where)

    labelled = {"name": "forged", "labels": {"imagewright.dev/imagebuild": "app"}}
    spec = {"containers": [{"name": "executor", "image": "busybox"}]}
    forged = {"apiVersion": "v1", "kind": "Pod", "metadata": labelled, "spec": spec}
    assert "only the operator may create Pods" in builds.try_kubectl("create", "--filename=-", given=forged).stderr
    refused = builds.imagebuild("refused", podTemplate={"labels": {"app": "web"}})
    assert "IMAGEWRIGHT_ALLOWED_LABELS" in builds.try_kubectl("create", "--filename=-", given=refused).stderr
    for one in (forged, refused | {"metadata": {"name": "refused"}}):  # in "default", which this operator doesn't serve
        cluster.kubectl("create", "--dry-run=server", "--filename=-", stdin=json.dumps(one))

    second = eventually(lambda: holder(cluster, system, called), "a lease that is held")
    assert second != first
    eventually(lambda: leading(cluster, system, second), "the one that holds it to work")
    account = f"--as=system:serviceaccount:{system}:{called}"
    for verb, lease in (("update", "another"), ("delete", called), ("list", "")):
        allowed = cluster.try_kubectl(
            "auth", "can-i", verb, f"leases.coordination.k8s.io/{lease}".rstrip("/"), account, f"--namespace={system}"
        )
        assert allowed.stdout == "no\n", (verb, lease)

    cluster.kubectl("rollout", "status", f"deployment/{called}", f"--namespace={system}", "--timeout=180s")
    done = helm("uninstall", builds.name, f"--namespace={system}")
    assert done.returncode == 0, done.stderr
    assert builds.status()["image"] == status["image"]
