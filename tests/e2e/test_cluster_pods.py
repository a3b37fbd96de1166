"""The cluster itself: Pods of every base image run, reach what they should, and pull from both registries."""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
from cluster.client import Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]


def test_a_busybox_pod_runs_and_prints(cluster: Cluster, namespace: str) -> None:
    command = ["sh", "-c", "echo from the pod; id -u"]
    assert cluster.run_pod("prints", "busybox", command, namespace=namespace) == "from the pod\n0\n"


def test_the_output_of_a_failed_pod_is_in_the_error(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(Exception, match="last words"):
        cluster.run_pod("fails", "busybox:1", ["sh", "-c", "echo last words; exit 3"], namespace=namespace)


@pytest.mark.parametrize(
    ("image", "script", "expected"),
    [
        ("alpine:3", "cat /etc/os-release; ls /lib", ["ID=alpine", "ld-musl-"]),
        ("debian:trixie-slim", "cat /etc/os-release; stat -c %a /tmp", ["ID=debian", "1777"]),
        ("python:3-slim", "python -c 'import ssl, venv; print(6*7)'; pip --version", ["42", "pip "]),
        ("golang:1", "cd /tmp; printf 'package main\nfunc main(){println(6*7)}' >a.go; go run a.go 2>&1", ["42"]),
        ("golang:alpine", "cat /etc/os-release; go version", ["ID=alpine", "go version go1."]),
    ],
)
def test_a_base_image_is_what_its_name_says(
    cluster: Cluster, namespace: str, image: str, script: str, expected: list[str]
) -> None:
    output = cluster.run_pod("base", image, ["sh", "-c", script], namespace=namespace)
    for text in expected:
        assert text in output


def test_package_registries_are_reached_from_a_pod(cluster: Cluster, namespace: str) -> None:
    apt = "apt-get update -qq && apt-get install -y -qq --no-install-recommends tree >/dev/null 2>&1 && tree --version"
    assert "tree v" in cluster.run_pod("apt", "debian:trixie-slim", ["sh", "-c", apt], namespace=namespace)
    pip = (
        "pip install -q --root-user-action=ignore iniconfig && python -c 'import iniconfig; print(iniconfig.__name__)'"
    )
    assert "iniconfig" in cluster.run_pod("pip", "python:3-slim", ["sh", "-c", pip], namespace=namespace)
    go = "mkdir /tmp/m && cd /tmp/m && go mod init x >/dev/null 2>&1 && go get rsc.io/quote@v1.5.2 2>/dev/null && go list -m all"
    assert "rsc.io/quote v1.5.2" in cluster.run_pod("go", "golang:1", ["sh", "-c", go], namespace=namespace)


def test_a_pod_can_request_a_user_namespace(cluster: Cluster, namespace: str) -> None:
    """The node can give Pods user namespaces, and says so where the operator looks."""
    profile = {"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}
    command = ["sh", "-c", "cat /proc/self/uid_map; grep Seccomp: /proc/self/status"]
    output = cluster.run_pod("users", "busybox", command, namespace=namespace, hostUsers=False, container=profile)
    first, second = output.splitlines()
    inside, outside, count = (int(number) for number in first.split())
    assert (inside, count) == (0, 65536)
    assert outside >= 65536
    assert second.split() == ["Seccomp:", "2"]
    handlers = cluster.json("get", "node", cluster.node)["status"]["runtimeHandlers"]
    assert any(handler.get("features", {}).get("userNamespaces") for handler in handlers)


def test_a_private_image_runs_only_with_its_password(cluster: Cluster, namespace: str) -> None:
    private = cluster.private_registry
    copy = [str(cluster.programs / "crane"), "copy", "--insecure", f"{cluster.registry.host}/library/busybox:1"]
    login = base64.b64encode(f"{private.username}:{private.password}".encode()).decode()
    config = {"auths": {private.host: {"auth": login}}}
    folder = cluster.places.state / "docker-config"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    image = f"{private.host}/team/app:1.0.0"
    environment = {"DOCKER_CONFIG": str(folder), "SSL_CERT_FILE": str(private.authority), "PATH": "/usr/bin:/bin"}
    subprocess.run([*copy, image], check=True, env=environment, capture_output=True)
    encoded = base64.b64encode(json.dumps(config).encode()).decode()
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "pull", "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "data": {".dockerconfigjson": encoded},
    }
    cluster.apply(secret)
    # Without the password first: once it is on the node, the kubelet might not ask again.
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "refused", "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": image, "imagePullPolicy": "Always"}]},
    }
    cluster.apply(pod)
    path = "jsonpath={.status.containerStatuses[0].state.waiting.reason}"
    waiting = "pod/refused"
    cluster.kubectl("wait", waiting, "-n", namespace, "--timeout=60s", f"--for={path}=ErrImagePull")
    secrets = [{"name": "pull"}]
    command = ["echo", "let in"]
    assert cluster.run_pod("let-in", image, command, namespace=namespace, imagePullSecrets=secrets) == "let in\n"


def test_a_service_reaches_its_pod(cluster: Cluster, namespace: str) -> None:
    script = "echo hello >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"
    server = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "server", "namespace": namespace, "labels": {"app": "server"}},
        "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sh", "-c", script]}]},
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    cluster.apply(server, service)
    cluster.kubectl("wait", "pod/server", "-n", namespace, "--for=condition=Ready", "--timeout=60s")
    address = cluster.json("get", "service", "server", "-n", namespace)["spec"]["clusterIP"]
    fetch = ["sh", "-c", f"for i in 1 2 3 4 5 6 7 8 9 10; do wget -qO- http://{address} && exit; sleep 1; done; exit 1"]
    assert cluster.run_pod("asks", "busybox", fetch, namespace=namespace).endswith("hello\n")


def test_the_runtime_lists_its_images(cluster: Cluster) -> None:
    assert "imagewright.test/pause:1" in cluster.container_tool("images", "list", "-q")
