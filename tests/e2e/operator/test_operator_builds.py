"""Real builds by the operator: profiles, base images, sources, and every reason for which a build can fail."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds import installation
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def inline(text: str) -> dict[str, Any]:
    return {"inline": {"dockerfile": text}}


def config_of(cluster: Cluster, repository: str, digest: str) -> dict[str, Any]:
    """The configuration of a pushed image."""

    def get(path: str) -> dict[str, Any]:
        headers = {
            "Accept": "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
        }
        request = urllib.request.Request(f"{cluster.registry.url}/v2/{repository}/{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    return get(f"blobs/{get(f'manifests/{digest}')['config']['digest']}")


@pytest.mark.parametrize("profile", ["userns", "plain", "hardened", "auto"])
def test_the_image_of_every_profile_runs(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], profile: str
) -> None:
    operators(POD_PROFILE=profile)
    builds.apply(source=inline("FROM alpine\nRUN echo built >/built\nUSER 1000\nCMD cat /built; id -u"))
    status = builds.phase("Succeeded")
    pod = builds.pods()[0]
    assert pod["spec"].get("hostUsers") is (False if profile in ("userns", "auto") else None)
    assert status["build"]["sandbox"] == ("root" if profile == "hardened" else "namespace")
    assert status["build"]["sandboxReason"]
    assert status["build"]["nodeName"] == cluster.node
    assert [step["exitCode"] for step in status["build"]["steps"] if "RUN" in step["name"]] == [0]
    assert status["image"]["digest"] in status["log"]["tail"]
    output = cluster.run_pod("runs", status["image"]["reference"], namespace=builds.name)
    assert output == "built\n1000\n"


@pytest.mark.parametrize("base", ["alpine", "busybox", "debian"])
def test_with_enforced_pod_security_and_seccomp_the_root_sandbox_builds(
    cluster: Cluster, builds: Namespace, operator: Operator, base: str
) -> None:
    builds.kubectl("label", "namespace", builds.name, "pod-security.kubernetes.io/enforce=baseline")
    template = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    builds.apply(source=inline(f"FROM {base}\nRUN echo built >/built\nCMD cat /built"), podTemplate=template)
    status = builds.phase("Succeeded")
    assert status["build"]["sandbox"] == "root"
    assert cluster.run_pod("runs", status["image"]["reference"], namespace=builds.name) == "built\n"


def test_the_executor_pod_has_neither_privilege_nor_token_nor_host_paths(builds: Namespace, operator: Operator) -> None:
    builds.apply()
    builds.phase("Succeeded")
    spec = builds.pods()[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert {kind for volume in spec["volumes"] for kind in volume if kind != "name"} == {"emptyDir"}
    assert not [one for one in spec["containers"] if one.get("securityContext", {}).get("privileged")]
    assert not any(spec.get(name) for name in ("hostNetwork", "hostPID", "hostIPC"))


def test_an_inline_dockerfile_arrives_byte_for_byte(cluster: Cluster, builds: Namespace, operator: Operator) -> None:
    text = '$$ $(HOME) $$(HOME) "` ' + "漢" * 5400
    builds.apply(source=inline(f"FROM scratch\nLABEL text='{text}'\n"))
    status = builds.phase("Succeeded")
    config = config_of(cluster, f"{builds.name}/app", status["image"]["digest"])
    assert config["config"]["Labels"]["text"] == text


def test_a_config_map_target_arguments_and_labels(cluster: Cluster, builds: Namespace, operator: Operator) -> None:
    dockerfile = "FROM scratch AS first\nARG A\nARG B\nLABEL a=$A b=$B\nCOPY file /\nFROM first AS second\nLABEL c=d\n"
    files = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}}
    files["data"] = {"Dockerfile": dockerfile, "file": "x", "version": "2.1"}  # type: ignore[assignment]
    builds.kubectl("create", "--filename=-", given=files)
    reference = {"configMapKeyRef": {"name": "files", "key": "version"}}
    builds.apply(
        source={"configMap": {"name": "files"}},
        target="first",
        buildArgs=[{"name": "A", "value": "$(HOME)"}, {"name": "B", "valueFrom": reference}],
        output={"tags": [builds.tag(), builds.tag("app:2")], "labels": {"e": "f"}},
    )
    digest = builds.phase("Succeeded")["image"]["digest"]
    config = config_of(cluster, f"{builds.name}/app", digest)
    assert config["config"]["Labels"] == {"a": "$(HOME)", "b": "2.1", "e": "f"}
    assert config_of(cluster, f"{builds.name}/app", "2") == config


FAILURES: dict[str, tuple[dict[str, Any], int, str]] = {
    "StepFailed": ({"source": inline("FROM busybox\nRUN echo words; exit 3\n")}, 2, "3"),
    "DockerfileInvalid": ({"source": inline("FROM busybox\nCOPPY a b\n")}, 2, "COPPY"),
    "BaseImagePullFailed": ({"source": inline("FROM nothing-of-this-name\n")}, 1, "nothing-of-this-name"),
    "DockerfileNotFound": ({"source": {"configMap": {"name": "kube-root-ca.crt"}}}, 0, "Dockerfile"),
    "OutOfMemory": (
        {
            "source": inline("FROM busybox\nRUN tail /dev/zero\n"),
            "podTemplate": {"resources": {"limits": {"memory": "200Mi"}}},
        },
        0,
        "200Mi",
    ),
    "Timeout": ({"source": inline("FROM busybox\nRUN echo words; sleep 300\n"), "timeout": "8s"}, 0, "spec.timeout"),
    "SourceUnreachable": ({"source": {"git": {"url": "https://127.0.0.1:1/a.git"}}}, 0, "127.0.0.1:1"),
}


@pytest.mark.parametrize("reason", FAILURES)
def test_a_failing_build_has_its_own_reason_and_says_where(builds: Namespace, operator: Operator, reason: str) -> None:
    spec, line, said = FAILURES[reason]
    builds.apply(**spec)
    status = builds.phase("Failed")
    assert builds.ready() == f"False {reason}"
    failure = status["build"]["failure"]
    assert said in failure["message"]
    where = failure.get("line", 0)
    # Of a RUN that was killed alone the executor still tells; where the kernel kills the whole container nobody does.
    assert where == line or (reason, where) == ("OutOfMemory", 2)
    assert "Traceback" not in status.get("log", {}).get("tail", "")
    if reason in ("StepFailed", "Timeout"):
        assert "words" in status["log"]["tail"]
    builds.apply("other", source=inline("FROM scratch\nLABEL a=b\n"))
    builds.phase("Succeeded", "other")


def test_a_wrong_password_has_its_own_reason_and_is_never_shown(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator]
) -> None:
    private = cluster.private_registry
    builds.kubectl("create", "configmap", "registry-ca", f"--from-file=ca.crt={private.authority}")
    login = (f"--docker-server={private.host}", f"--docker-username={private.username}", "--docker-password=wr0ng-w0rd")
    builds.kubectl("create", "secret", "docker-registry", "regcred", *login)
    registries = [*installation.registries(cluster), {"host": private.host, "caFile": "ca.crt"}]
    operators(REGISTRIES=json.dumps(registries), REGISTRY_CA_CONFIGMAP="registry-ca")
    output = {"tags": [f"{private.host}/team/app:1"], "pushSecretRef": {"name": "regcred"}}
    builds.apply(source=inline("FROM busybox\nRUN date >/now\n"), output=output)
    builds.becomes("False RegistryAuthFailed")
    assert "wr0ng-w0rd" not in json.dumps(builds.status())


def test_a_full_workspace(builds: Namespace, operators: Callable[..., Operator]) -> None:
    operators(WORKSPACE_SIZE="32Mi")
    builds.apply(source=inline("FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=100; sleep 300\n"))
    builds.becomes("False DiskFull")


@pytest.mark.parametrize(
    ("spec", "settings", "reason"),
    [
        ({}, {"EXECUTOR_IMAGE": "127.0.0.1:1/none:1"}, "ImagePullFailed"),
        ({"podTemplate": {"nodeSelector": {"builds": "none"}}}, {}, "Unschedulable"),
        ({"podTemplate": {"resources": {"requests": {"memory": "900Gi"}}}}, {}, "Unschedulable"),
    ],
)
def test_a_pod_that_cannot_start_has_a_reason_and_is_abandoned(
    builds: Namespace, operators: Callable[..., Operator], spec: dict[str, Any], settings: dict[str, str], reason: str
) -> None:
    operators(**settings)
    builds.apply(startTimeout="20s", **spec)
    builds.becomes(f"False {reason}")
    builds.phase("Failed")
    assert builds.ready() == f"False {reason}"
    assert "spec.startTimeout (20s)" in builds.status()["build"]["failure"]["message"]


def test_a_build_continues_when_a_missing_secret_or_config_map_appears(builds: Namespace, operator: Operator) -> None:
    reference = {"configMapKeyRef": {"name": "late", "key": "a"}}
    output = {"tags": [builds.tag()], "pushSecretRef": {"name": "regcred"}}
    builds.apply(output=output, buildArgs=[{"name": "A", "valueFrom": reference}])
    builds.becomes("False SecretNotFound")
    login = ("--docker-server=https://index.docker.io/v1/", "--docker-username=u", "--docker-password=p")
    builds.kubectl("create", "secret", "docker-registry", "regcred", *login)
    builds.becomes("False ConfigMapNotFound")  # the kubelet looks again after growing pauses
    builds.kubectl("create", "configmap", "late", "--from-literal=a=b")
    builds.phase("Succeeded")
