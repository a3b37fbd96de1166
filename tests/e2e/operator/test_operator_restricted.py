"""Builds in a namespace that enforces Pod Security ``restricted``: what works there, and what is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from quickstart.images import ROOT
from servers.repository import Repository

pytestmark = [pytest.mark.root, pytest.mark.cluster]

SEEN_OF_DEBIAN = "stat -c '%u:%g %a' /etc/shadow /usr/bin/su /tmp /files/settings"


def restricted(**profile: str) -> dict[str, Any]:
    """A Pod template that ``restricted`` admits."""
    context = {
        "runAsUser": 1000,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": profile or {"type": "RuntimeDefault"},
    }
    return {"securityContext": context}


WITH_PROFILE = {**restricted(type="Localhost", localhostProfile="imagewright.json"), "hostUsers": False}


@pytest.fixture
def files(builds: Namespace) -> str:
    """A ConfigMap in a namespace that enforces ``restricted``; its name."""
    builds.kubectl("label", "namespace", builds.name, "pod-security.kubernetes.io/enforce=restricted")
    found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}}
    found["data"] = {"settings": "a=b\n"}  # type: ignore[assignment]
    builds.kubectl("create", "--filename=-", given=found)
    return "files"


@pytest.fixture(scope="session")
def seccomp_profile(cluster: Cluster) -> Iterator[None]:
    """The profile on the node, as the documentation installs it."""
    cluster.kubectl("apply", "-k", str(ROOT / "deploy/seccomp"))
    cluster.kubectl("-n", "imagewright-seccomp", "rollout", "status", "daemonset/imagewright-seccomp", "--timeout=120s")
    yield
    cluster.try_kubectl("delete", "-k", str(ROOT / "deploy/seccomp"), "--wait=false")


def apply(builds: Namespace, files: str, dockerfile: str, template: dict[str, Any]) -> None:
    data = {"Dockerfile": dockerfile}
    builds.kubectl("patch", "configmap", files, "--type=merge", f"--patch={json.dumps({'data': data})}")
    builds.apply(source={"configMap": {"name": files}}, podTemplate=template)


@pytest.mark.usefixtures("files")
def test_copies_of_a_private_repository_onto_debian_are_what_root_builds(
    cluster: Cluster,
    builds: Namespace,
    operator: Operator,
    git_source: Callable[..., tuple[Repository, dict[str, Any]]],
) -> None:
    text = f"FROM debian\nCOPY --chown=7:8 --chmod=4640 settings /files/\nCMD {SEEN_OF_DEBIAN}\n"
    repository, git = git_source("builder", "s3cr3t")
    repository.commit({"Dockerfile": text, "settings": "a=b\n"})
    builds.apply(source={"git": git}, podTemplate=restricted())
    status = builds.phase("Succeeded")
    assert status["build"].get("sandbox", "") == ""
    assert "cannot create a user namespace" in status["build"]["sandboxReason"]
    assert "seccomp filter" in status["build"]["sandboxReason"]
    builds.kubectl("label", "namespace", builds.name, "pod-security.kubernetes.io/enforce-")
    seen = cluster.run_pod("runs", status["image"]["reference"], namespace=builds.name)
    assert seen.splitlines() == ["0:42 640", "0:0 4755", "0:0 1777", "7:8 4640"]


def test_run_is_refused_by_name(builds: Namespace, operator: Operator, files: str) -> None:
    apply(builds, files, "FROM debian\nCOPY settings /\nRUN true\n", restricted())
    status = builds.becomes("False SandboxUnavailable")
    failure = status["build"]["failure"]
    assert (
        "cannot execute RUN: cannot create a user namespace: Operation not permitted (seccomp filter)"
        in failure["message"]
    )
    assert "Localhost seccomp profile such as deploy/seccomp/imagewright.json" in failure["message"]
    assert (failure["instruction"], failure["line"]) == ("RUN true", 3)


def test_pod_of_the_default_template_is_not_admitted(builds: Namespace, operator: Operator, files: str) -> None:
    apply(builds, files, "FROM scratch\nCOPY settings /\n", {})
    status = builds.becomes("False PodRejected")
    assert "violates PodSecurity" in status["build"]["failure"]["message"]


def test_run_works_with_the_profile_of_deploy(
    cluster: Cluster, builds: Namespace, operator: Operator, files: str, seccomp_profile: None
) -> None:
    text = "FROM busybox\nCOPY settings /files/\nRUN id -u >/built && mkdir -p /a/b\nCMD cat /built /files/settings\n"
    apply(builds, files, text, WITH_PROFILE)
    status = builds.phase("Succeeded")
    assert status["build"]["sandbox"] == "namespace"
    builds.kubectl("label", "namespace", builds.name, "pod-security.kubernetes.io/enforce-")
    assert cluster.run_pod("runs", status["image"]["reference"], namespace=builds.name) == "0\na=b\n"


def test_with_the_profile_an_image_that_needs_more_ids_is_refused(
    builds: Namespace, operator: Operator, files: str, seccomp_profile: None
) -> None:
    apply(builds, files, "FROM debian\nRUN true\n", WITH_PROFILE)
    status = builds.becomes("False IdOutOfRange")
    assert "0:42" in status["build"]["failure"]["message"]
