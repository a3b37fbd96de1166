"""A Pod without the capabilities of the namespace sandbox: the root sandbox, or a report of what is missing."""

from __future__ import annotations

import pytest
from cluster.client import Cluster
from cluster.processes import eventually
from imagebuilds.installation import image

pytestmark = [pytest.mark.root, pytest.mark.cluster]

# What kaniko's users give a container that drops all others: SETFCAP is not among them.
CAPABILITIES = {"drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]}


def test_a_pod_without_setfcap_builds_in_the_root_sandbox_or_reports_why_not(cluster: Cluster, namespace: str) -> None:
    dockerfile = "FROM busybox\nRUN touch /made && chown 1000:1000 /made && stat -c 'made by %u' /made\n"
    cluster.kubectl("create", "configmap", "context", f"--from-literal=Dockerfile={dockerfile}", "-n", namespace)
    executor = image(cluster, "executor")

    def container(name: str) -> dict[str, object]:
        return {
            "name": name,
            "image": executor,
            "args": ["--context=dir:///context", "--no-push", f"--sandbox={name}",
                     f"--insecure-registry={cluster.registry.host}", f"--registry-endpoint=docker.io={cluster.registry.host}"],
            "volumeMounts": [{"name": "context", "mountPath": "/context"}],
            "securityContext": {"capabilities": CAPABILITIES},
        }  # fmt: skip

    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "builds", "namespace": namespace},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container("auto"), container("namespace")],
            "volumes": [{"name": "context", "configMap": {"name": "context"}}],
        },
    }
    cluster.apply(pod)
    eventually(lambda: cluster.phase("builds", namespace) in ("Succeeded", "Failed"), "both builds to end")
    states = cluster.json("get", "pod", "builds", "-n", namespace)["status"]["containerStatuses"]
    logs = {name: cluster.kubectl("logs", "builds", "-c", name, "-n", namespace) for name in ("auto", "namespace")}
    codes = {state["name"]: state["state"]["terminated"]["exitCode"] for state in states}
    assert codes == {"auto": 0, "namespace": 8}, logs
    assert "sandbox root: " in logs["auto"]
    assert "| made by 1000\n" in logs["auto"]
    assert "(missing capabilities: SETFCAP) [SandboxUnavailable]\nhint: Add SETFCAP to" in logs["namespace"]
