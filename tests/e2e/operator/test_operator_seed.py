"""The first user story: a Go program from git to a running Pod, by an ImageBuild and by a plain kaniko Pod."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.installation import image
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually
from servers.git import GitServer
from servers.repository import Repository

pytestmark = [pytest.mark.root, pytest.mark.cluster]

DOCKERFILE = """\
ARG GO=latest
FROM golang:${GO} AS dev
WORKDIR /app
ENV CGO_ENABLED=0 GOFLAGS=-mod=mod
COPY ./app/* /app/

FROM dev AS build
ARG VERSION=unknown
RUN go build -trimpath -ldflags "-X main.version=$VERSION" -o /out/app .

FROM alpine AS runtime
COPY --from=build /out/app /usr/local/bin/app
CMD ["app"]
"""
MAIN = """\
package main

import "fmt"

var version = "none"

func main() { fmt.Println("hello from", version) }
"""
FILES = {"Dockerfile": DOCKERFILE, "app/main.go": MAIN, "app/go.mod": "module example.com/app\n\ngo 1.22\n"}


@pytest.fixture
def hub(cluster: Cluster, builds: Namespace) -> dict[str, str]:
    """Settings that point Docker Hub at the test registries: base images at the open one, pushes at the one with a
    password; the namespace holds the CA and, as Secret ``regcred``, the login that kubectl makes for Docker Hub."""
    private = cluster.private_registry
    assert private.authority is not None
    builds.kubectl("create", "configmap", "registry-ca", f"--from-file=ca.crt={private.authority}")
    builds.kubectl(
        "create", "secret", "docker-registry", "regcred", "--docker-server=https://index.docker.io/v1/",
        f"--docker-username={private.username}", f"--docker-password={private.password}",
    )  # fmt: skip
    registries = [
        {"host": "docker.io", "mirrors": [cluster.registry.host], "endpoint": private.host},
        {"host": cluster.registry.host, "insecure": True},
        {"host": private.host, "caFile": "ca.crt"},
    ]
    return {"REGISTRIES": json.dumps(registries), "REGISTRY_CA_CONFIGMAP": "registry-ca"}


def run_pushed(cluster: Cluster, builds: Namespace, digest: str) -> str:
    """What the image prints as a Pod: pulled by the node from the registry with the password."""
    private = cluster.private_registry
    builds.kubectl(
        "create", "secret", "docker-registry", "pull", f"--docker-server={private.host}",
        f"--docker-username={private.username}", f"--docker-password={private.password}",
    )  # fmt: skip
    reference = f"{private.host}/user/app@{digest}"
    return cluster.run_pod("runs", reference, namespace=builds.name, imagePullSecrets=[{"name": "pull"}])


@pytest.mark.parametrize("with_login", [True, False], ids=["with a login", "without a login"])
def test_an_imagebuild_from_git_runs_as_a_pod(
    cluster: Cluster,
    builds: Namespace,
    operators: Callable[..., Operator],
    hub: dict[str, str],
    git_source: Callable[..., tuple[Repository, dict[str, Any]]],
    with_login: bool,
) -> None:
    repository, git = git_source(*(("builder", "s3cr3t-git-word") if with_login else ()))
    commit = repository.commit(FILES)
    operators(**hub)
    builds.apply(
        source={"git": git},
        target="runtime",
        buildArgs=[{"name": "VERSION", "value": "1.2.3"}],
        output={"tags": ["user/app:1.0.0", "user/app:latest"], "pushSecretRef": {"name": "regcred"}},
    )
    status = builds.phase("Succeeded", patience_s=300)
    assert status["build"]["source"]["commit"] == commit
    assert status["image"]["reference"].startswith("user/app:1.0.0@sha256:")
    assert run_pushed(cluster, builds, status["image"]["digest"]) == "hello from 1.2.3\n"
    log = builds.kubectl("logs", builds.pods()[0]["metadata"]["name"])
    assert cluster.private_registry.password not in log
    assert "s3cr3t-git-word" not in log


def test_a_polled_branch_is_built_when_it_moves(
    builds: Namespace, operator: Operator, git_source: Callable[..., tuple[Repository, dict[str, Any]]]
) -> None:
    repository, git = git_source("builder", "s3cr3t-git-word")
    repository.commit({"Dockerfile": "FROM scratch\nLABEL a=1\n"})
    builds.apply(source={"git": {**git, "poll": "1m"}})
    first = builds.phase("Succeeded")
    commit = repository.commit({"Dockerfile": "FROM scratch\nLABEL a=2\n"})
    eventually(lambda: builds.status()["build"]["number"] == 2, "a second build")
    second = builds.phase("Succeeded")
    assert second["build"]["source"]["commit"] == second["build"]["polledCommit"] == commit
    assert second["poll"]["commit"] == commit
    assert second["image"]["digest"] != first["image"]["digest"]
    assert "s3cr3t-git-word" not in builds.kubectl("get", "imagebuild", "app", "--output=yaml")
    assert not [pod for pod in builds.pods() if pod["metadata"]["name"].endswith("-probe")]


@pytest.mark.parametrize("sandbox", ["namespace", "root"])
def test_a_kaniko_pod_needs_only_another_image_name(
    cluster: Cluster, builds: Namespace, hub: dict[str, str], git_server: Callable[..., GitServer], sandbox: str
) -> None:
    """As people write it: the ServiceAccount's token is mounted below /var/run, which is a link in golang's image."""
    server = git_server()
    commit = server.repository("team/app.git").commit(FILES)
    assert commit
    builds.kubectl("create", "configmap", "authorities", f"--from-file=git.crt={server.ca_file}",
                   f"--from-file=registry.crt={cluster.private_registry.authority}")  # fmt: skip
    address = server.url("team/app.git").replace("https://", "git://")
    environment = {
        "KANIKO_REGISTRY_MIRROR": cluster.registry.host,
        "IMAGEWRIGHT_INSECURE_REGISTRY": cluster.registry.host,
        "IMAGEWRIGHT_REGISTRY_ENDPOINT": f"docker.io={cluster.private_registry.host}",
    }
    container = {
        "name": "kaniko",
        "image": image(cluster, "executor"),
        "args": ["--dockerfile=Dockerfile", f"--context={address}", "--destination=user/app:1.0.0"],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "volumeMounts": [
            {"name": "kaniko-secret", "mountPath": "/kaniko/.docker"},
            {"name": "authorities", "mountPath": "/kaniko/ssl/certs"},
        ],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}} if sandbox == "root" else {},
    }
    items = [{"key": ".dockerconfigjson", "path": "config.json"}]
    volumes = [
        {"name": "kaniko-secret", "secret": {"secretName": "regcred", "items": items}},
        {"name": "authorities", "configMap": {"name": "authorities"}},
    ]
    output = cluster.run_pod("kaniko", "", namespace=builds.name, container=container, volumes=volumes)
    assert f"sandbox {sandbox}: " in output
    assert "/var/run/secrets/kubernetes.io/serviceaccount" in builds.kubectl("get", "pod", "kaniko", "--output=yaml")
    pushed = next(line for line in output.splitlines() if line.startswith("user/app:1.0.0@sha256:"))
    assert run_pushed(cluster, builds, pushed.partition("@")[2]) == "hello from unknown\n"


def test_a_wrong_registry_password_is_reported_before_the_build(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], hub: dict[str, str]
) -> None:
    builds.kubectl("delete", "secret", "regcred")
    builds.kubectl("create", "secret", "docker-registry", "regcred", "--docker-server=https://index.docker.io/v1/",
                   "--docker-username=user", "--docker-password=wrong")  # fmt: skip
    operators(**hub)
    builds.apply(
        source={"inline": {"dockerfile": "FROM alpine\nRUN echo never\n"}},
        output={"tags": ["user/app:1.0.0"], "pushSecretRef": {"name": "regcred"}},
    )
    status = builds.phase("Failed")
    assert status["build"]["failure"]["reason"] == "RegistryAuthFailed"
    assert "never" not in status["log"]["tail"]
