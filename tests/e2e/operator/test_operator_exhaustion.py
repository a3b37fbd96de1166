"""Builds that use up what a Pod has, processes, memory and disk, in every sandbox, all at the same time.

Each of them ends with its own reason and says what to do. Neither the operator nor a build that does no harm notices.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator

pytestmark = [pytest.mark.root, pytest.mark.cluster, pytest.mark.alone]


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What an ImageBuild asks for, the sandbox that it gets, and the fields that limit its disk."""

    asked: str
    taken: str
    disk: str
    context: dict[str, Any] = field(default_factory=dict)


WORKSPACE, STORAGE = "IMAGEWRIGHT_WORKSPACE_SIZE", "spec.podTemplate.resources.limits.ephemeral-storage"
RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
SANDBOXES = {
    "namespace": Sandbox("Auto", "namespace", WORKSPACE),  # the Pod has a runner, which does nothing
    "root": Sandbox("Auto", "root", STORAGE, RUNTIME_DEFAULT),
    "chroot": Sandbox("Chroot", "chroot", STORAGE),
}
ENGINE = '{"requests": {"cpu": "60m", "memory": "64Mi"}}'  # where RUN is in the other container
# In a subshell: its second fork is refused where the first has used up the limit already, and that ends the shell.
BOMB = "b() { b & b & }; (b 2>/dev/null)"
WAIT = "n=0; while [ $n -lt 9999 ]; do n=$((n+1)); done"  # without a process, of which there are none left
LEFT_BEHIND = f"FROM busybox\nRUN {BOMB}; {WAIT}; echo left behind\n"
MEANWHILE = "RUN echo still here\n"
ATTACKS = {
    "forks": f"{LEFT_BEHIND}{MEANWHILE}RUN while :; do sleep 1000 & done\n",
    "endless": f"FROM busybox\nRUN {BOMB}; while :; do :; done\n",
    "memory": "FROM busybox\nRUN tail /dev/zero || yes | tail -c 999999999\n",
    "disk": "FROM busybox\nRUN yes | head -c 150000000 >/x; exec sleep 600\n",
}
REASONS = {"forks": "StepFailed", "endless": "Timeout", "memory": "OutOfMemory", "disk": "DiskFull"}
MEMORY = {"forks": "1Gi", "endless": "1Gi", "memory": "150Mi", "disk": "200Mi"}
CPU = {"forks": "300m", "endless": "100m", "memory": "400m", "disk": "400m"}  # of a machine that others use
HONEST = "FROM busybox\nRUN for i in $(seq 20); do sleep 1; done; date >/now\n"


def inline(text: str) -> dict[str, Any]:
    return {"inline": {"dockerfile": text}}


def resources(attack: str) -> dict[str, dict[str, str]]:
    """What the attack may use up, and next to no requests: all Pods are to run at once."""
    limits = {"cpu": CPU[attack], "memory": MEMORY[attack], "ephemeral-storage": "100Mi"}
    return {"limits": limits, "requests": {"cpu": "60m", "memory": "32Mi"}}


def said(attack: str, sandbox: Sandbox) -> str:
    """The remedy that the failure names."""
    return {
        "forks": "podPidsLimit",
        "endless": "exceeded spec.timeout",
        "memory": "raise spec.podTemplate.resources.limits.memory",
        "disk": f"raise {sandbox.disk}" if sandbox.disk == STORAGE else f"raise the operator's setting {sandbox.disk}",
    }[attack]


def test_what_a_build_uses_up_ends_it_and_nothing_else(
    cluster: Cluster, builds: Namespace, operators: Callable[..., Operator], build_settings: dict[str, str]
) -> None:
    operator = operators(POD_PROFILE="userns", WORKSPACE_SIZE="100Mi", ENGINE_RESOURCES=ENGINE)
    builds.apply("honest", source=inline(HONEST))
    attacks = {f"{attack}-{name}": (attack, one) for name, one in SANDBOXES.items() for attack in ATTACKS}
    for name, (attack, one) in attacks.items():
        template = {"resources": resources(attack), **({"securityContext": one.context} if one.context else {})}
        builds.apply(
            name, source=inline(ATTACKS[attack]), sandbox=one.asked, podTemplate=template,
            timeout="60s" if attack == "endless" else "15m",
        )  # fmt: skip
    for sandbox in ("root", "chroot"):
        own_pod(cluster, builds, build_settings["EXECUTOR_IMAGE"], sandbox)

    for name, (attack, one) in attacks.items():
        build = builds.phase("Failed", name)["build"]
        assert build["failure"]["reason"] == REASONS[attack], build
        assert said(attack, one) in build["failure"]["message"], name
        assert build.get("sandbox", one.taken) == one.taken, name
        assert build["attempt"] == 1, name
    assert builds.phase("Succeeded", "honest")["build"]["attempt"] == 1
    assert operator.is_running()
    assert "Traceback" not in operator.log()
    for sandbox in ("root", "chroot"):
        builds.kubectl("wait", "--for=jsonpath={.status.phase}=Failed", f"pod/{sandbox}", "--timeout=240s")
        log = builds.kubectl("logs", sandbox)
        assert "still here" in log
        assert "[StepFailed]" in log
        assert "podPidsLimit" in log


def own_pod(cluster: Cluster, builds: Namespace, image: str, sandbox: str) -> None:
    """A Pod as kaniko's users write it, with one container."""
    registry = cluster.registry.host
    arguments = [
        *("--context=dir:///kaniko/context", "--no-push", f"--sandbox={sandbox}"),
        *(f"--registry-mirror={registry}", f"--insecure-registry={registry}"),
    ]
    data = {"Dockerfile": ATTACKS["forks"]}
    content: dict[str, Any] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": sandbox}, "data": data}
    builds.kubectl("create", "--filename=-", given=content)
    container = {
        "name": "kaniko",
        "image": image,
        "args": arguments,
        "resources": resources("forks"),
        "volumeMounts": [{"name": "context", "mountPath": "/kaniko/context"}],
    }
    volumes = [{"name": "context", "configMap": {"name": sandbox}}]
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": sandbox}, "spec": spec}
    builds.kubectl("create", "--filename=-", given=pod)
