"""Builds whose commands run in a container of their own, as in every Pod without user namespaces."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually

from imagewright_operator.pods.states import container_of, state_of

pytestmark = [pytest.mark.root, pytest.mark.cluster]

FROM = "FROM busybox\nRUN "


def inline(run: str) -> dict[str, Any]:
    return {"inline": {"dockerfile": f"{FROM}{run}\n"}}


def test_a_command_finds_nothing_of_the_engines(builds: Namespace, operators: Callable[..., Operator]) -> None:
    builds.kubectl("create", "secret", "generic", "npm", "--from-literal=token=s3cr3t")
    operators(POD_PROFILE="hardened", ALLOWED_ENV="MINE")
    looks = "ls /kaniko /kaniko/runner; env; ps; ls -l /mine; ! touch /kaniko/runner/x && echo looked"
    builds.apply(
        source=inline(looks),
        requireIsolation=True,
        secrets=[{"id": "npm", "secretKeyRef": {"name": "npm", "key": "token"}}],
        podTemplate={
            "env": [{"name": "MINE", "value": "s3cr3t"}],
            "volumes": [{"name": "mine", "mountPath": "/mine", "secret": {"secretName": "npm"}}],
        },
    )
    status = builds.phase("Succeeded")
    assert status["build"]["sandbox"] == "root"
    (pod,) = builds.pods()
    name = pod["metadata"]["name"]
    log = builds.kubectl("logs", name)
    assert "looked" in log, "the executor's log, without --container"
    assert "s3cr3t" not in log
    assert not [word for word in ("execute", "secrets", "MINE=", "token") if word in log.partition("\nlooked")[0]], log
    assert {one: state_of(pod, one)["terminated"]["exitCode"] for one in ("executor", "runner")} == dict.fromkeys(
        ("executor", "runner"), 0
    )
    assert json.loads(state_of(pod, "executor")["terminated"]["message"])["digest"] == status["image"]["digest"]
    assert not state_of(pod, "runner")["terminated"].get("message")


@pytest.mark.parametrize(
    ("settings", "run", "said"),
    [
        (
            {},
            "tail /dev/zero",
            'the container "runner" ran out of memory at its limit of 150Mi: raise spec.podTemplate.resources.limits.memory',
        ),
        (
            {"ENGINE_RESOURCES": '{"limits": {"memory": "20Mi"}}'},
            "true",
            'the container "executor" ran out of memory at its limit of 20Mi: raise limits.memory in the operator\'s setting IMAGEWRIGHT_ENGINE_RESOURCES',
        ),
    ],
)
def test_the_container_that_runs_out_of_memory_is_named(
    builds: Namespace, operators: Callable[..., Operator], settings: Mapping[str, str], run: str, said: str
) -> None:
    operators(POD_PROFILE="hardened", **settings)
    builds.apply(source=inline(run), podTemplate={"resources": {"limits": {"memory": "150Mi"}}})
    status = builds.becomes("False OutOfMemory")
    assert said in status["build"]["failure"]["message"]
    assert said in builds.kubectl("describe", "imagebuild", "app")


def test_a_build_whose_runner_is_killed_is_retried(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator]
) -> None:
    operators(POD_PROFILE="hardened")
    _dockerfile(builds, "echo begun; sleep 600")
    builds.apply(source={"configMap": {"name": "files"}})
    name = builds.pod()["metadata"]["name"]
    eventually(lambda: "| begun" in builds.try_kubectl("logs", name).stdout, "a RUN that runs")
    _dockerfile(builds, "true")
    statuses = builds.get("pod", name)["status"]["containerStatuses"]
    runner = container_of(statuses, "runner")["containerID"].rpartition("/")[2]
    cluster.container_tool("tasks", "kill", "--signal", "SIGKILL", runner)
    status = builds.becomes("Unknown NodeOutOfMemory")
    assert 'the container "runner" was killed from outside' in status["conditions"][0]["message"]
    assert builds.phase("Succeeded")["build"]["attempt"] == 2


def _dockerfile(builds: Namespace, run: str) -> None:
    """What the next attempt builds; a ConfigMap's content is no input."""
    content: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "files"}}
    builds.kubectl("apply", "--filename=-", given={**content, "data": {"Dockerfile": f"{FROM}{run}\n"}})
