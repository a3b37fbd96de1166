"""Secrets of an ImageBuild in a real cluster: one RUN sees them, and nothing that is left behind has a byte of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cluster.client import Cluster
from imagebuilds.manifests import container
from imagebuilds.namespace import Namespace
from imagebuilds.operator_process import Operator
from imagebuilds.waiting import eventually
from leaks.needles import Needles

pytestmark = [pytest.mark.root, pytest.mark.cluster]

PRINTS = """\
FROM busybox
RUN --mount=type=secret,id=token sha256sum /run/secrets/token | grep -q {digest}
RUN --mount=type=secret,id=token cat /run/secrets/token; echo; echo "<$(cat /run/secrets/token)>" >&2
RUN --mount=type=secret,id=token,env=TOKEN echo "$TOKEN" && env
RUN --mount=type=secret,id=team/text,target=/root/.text cat /root/.text
RUN --mount=type=ssh test -S "$SSH_AUTH_SOCK"
RUN test -z "$TOKEN" && test ! -e /run/secrets/token && test ! -e /root/.text && echo made >/made
"""
FAILS = """\
FROM busybox
RUN --mount=type=secret,id=token echo "the password is $(cat /run/secrets/token)"; exit 3
"""


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is in the Secrets, and how an ImageBuild names them."""

    digest: str
    needles: Needles
    spec: dict[str, Any]


@pytest.fixture
def secrets(builds: Namespace, tmp_path: Path) -> Secrets:
    token = f"token-{uuid.uuid4().hex}"
    text = "".join(f"line {number} is {uuid.uuid4().hex}\n" for number in range(3))
    (tmp_path / "token").write_text(token)
    (tmp_path / "text").write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    key = "".join((tmp_path / "key").read_text().splitlines()[2:-1])  # the first line of all such keys is the same
    builds.kubectl(
        "create", "secret", "generic", "tokens", f"--from-file={tmp_path}/token", f"--from-file={tmp_path}/text"
    )
    builds.kubectl("create", "secret", "generic", "deploy-key", f"--from-file=ssh-privatekey={tmp_path}/key")
    spec = {
        "secrets": [
            {"id": "token", "secretKeyRef": {"name": "tokens", "key": "token"}},
            {"id": "team/text", "secretKeyRef": {"name": "tokens", "key": "text"}},
        ],
        "ssh": [{"secretKeyRef": {"name": "deploy-key", "key": "ssh-privatekey"}}],
    }
    return Secrets(hashlib.sha256(token.encode()).hexdigest(), Needles(token, text, key), spec)


def inline(text: str) -> dict[str, Any]:
    return {"inline": {"dockerfile": text}}


def everything_told(builds: Namespace, operator: Operator) -> dict[str, str]:
    """All that the cluster keeps of the builds, and all logs, but the Secrets themselves."""
    (pod,) = builds.pods()
    return {
        "Pod": json.dumps(pod),
        "ImageBuild": json.dumps(builds.get("imagebuild", "app")),
        "Events": json.dumps(builds.get("events")),
        "log of the Pod": builds.kubectl("logs", pod["metadata"]["name"], "--all-containers"),
        "log of the operator": operator.log(),
    }


@pytest.mark.parametrize("profile", ["userns", "hardened"])
def test_mounted_secrets_leave_no_trace(
    cluster: Cluster,
    builds: Namespace,
    operators: Callable[..., Operator],
    secrets: Secrets,
    tmp_path: Path,
    *,
    profile: str,
) -> None:
    operator = operators(POD_PROFILE=profile)
    builds.apply(source=inline(PRINTS.replace("{digest}", secrets.digest)), **secrets.spec)
    status = builds.phase("Succeeded")
    assert status["build"]["sandbox"] == ("root" if profile == "hardened" else "namespace")
    told = everything_told(builds, operator)
    assert "***" in told["log of the Pod"]
    assert "***" in status["log"]["tail"]
    assert [name for name, text in told.items() if secrets.needles.in_text(text)] == []
    (pod,) = builds.pods()
    assert [one["name"] for one in container(pod)["env"]] == ["IMAGEWRIGHT_REQUEST"]
    image = tmp_path / "image"
    pushed = f"docker://{cluster.registry.host}/{builds.name}/app@{status['image']['digest']}"
    command = ["skopeo", "copy", "--src-tls-verify=false", pushed, f"oci:{image}"]
    subprocess.run(command, check=True, capture_output=True)
    assert secrets.needles.in_files([image]) == []


def test_a_secret_printed_by_a_failing_run_is_not_reported(
    builds: Namespace, operator: Operator, secrets: Secrets
) -> None:
    builds.apply(source=inline(FAILS), **secrets.spec)
    status = builds.phase("Failed")
    assert "the password is ***" in status["build"]["failure"]["message"]
    told = everything_told(builds, operator)
    assert [name for name, text in told.items() if secrets.needles.in_text(text)] == []


def test_a_build_continues_when_a_missing_secret_or_key_appears(builds: Namespace, operator: Operator) -> None:
    reference = {"name": "late", "key": "token"}
    builds.apply(
        source=inline("FROM busybox\nRUN --mount=type=secret,id=a grep -q x /run/secrets/a\n"),
        secrets=[{"id": "a", "secretKeyRef": reference}],
    )
    builds.becomes("False SecretNotFound")
    builds.kubectl("create", "secret", "generic", "late", "--from-literal=other=x")
    told = builds.becomes("False SecretNotFound")
    builds.kubectl("patch", "secret", "late", "--type=merge", '--patch={"stringData": {"token": "x"}}')
    builds.phase("Succeeded")
    assert "late" in json.dumps(told["conditions"])


def test_a_build_waits_for_a_secret_beyond_the_start_timeout(builds: Namespace, operator: Operator) -> None:
    """Pod after Pod is deleted before it has run: the kubelet says of each that its container is lost."""
    builds.apply(
        source=inline("FROM busybox\nRUN --mount=type=secret,id=a grep -q x /run/secrets/a\n"),
        secrets=[{"id": "a", "secretKeyRef": {"name": "late", "key": "token"}}],
        startTimeout="10s",
    )
    builds.becomes("False SecretNotFound")
    pods: set[str] = set()

    def third() -> bool:
        pods.update(pod["metadata"]["uid"] for pod in builds.pods())
        return len(pods) >= 3

    eventually(third, "a third Pod")
    builds.kubectl("create", "secret", "generic", "late", "--from-literal=token=x")
    status = builds.phase("Succeeded")
    assert (status["build"]["number"], status["build"]["attempt"]) == (1, 1)
    assert "BuildRetried" not in builds.events()


def test_a_required_secret_missing_from_the_spec_is_reported(builds: Namespace, operator: Operator) -> None:
    builds.apply(source=inline("FROM busybox\nRUN --mount=type=secret,id=token,required true\n"))
    status = builds.phase("Failed")
    assert builds.ready() == "False SecretNotFound"
    assert "spec.secrets" in status["build"]["failure"]["message"]
    assert status["build"]["failure"]["line"] == 2


def test_a_cache_on_a_persistent_volume_claim_serves_the_next_build(
    builds: Namespace, operators: Callable[..., Operator], claim: str
) -> None:
    operators(POD_PROFILE="plain")  # a volume of the node's own can't be mapped into a Pod's user namespace everywhere
    line = 'RUN --mount=type=cache,target=/cache echo line >>/cache/file; echo "builds: $(wc -l </cache/file)"'
    for number in (1, 2):
        source = inline(f"FROM busybox\nLABEL number={number}\n{line}\n")
        builds.apply(source=source, cache={"volume": {"claimName": claim}})
        eventually(partial(_is_at, builds, number), "its build")
        status = builds.phase("Succeeded")
        assert f"builds: {number}" in builds.kubectl("logs", status["build"]["podNames"][0])


def _is_at(builds: Namespace, number: int) -> bool:
    return bool(builds.status().get("build", {}).get("number") == number)
