"""What Pods of this node may do, by their security context: the facts that the sandboxes and Pod profiles stand on."""

from __future__ import annotations

from typing import Any

import pytest
from cluster.client import Cluster

pytestmark = [pytest.mark.root, pytest.mark.cluster]

RUNTIME_DEFAULT = {"seccompProfile": {"type": "RuntimeDefault"}}
CONFINED = ["SYS_ADMIN", "SYS_CHROOT", "SETUID", "SETGID", "SETFCAP", "DAC_OVERRIDE", "CHOWN", "FOWNER"]
STRICT = {**RUNTIME_DEFAULT, "procMount": "Unmasked", "capabilities": {"drop": ["ALL"], "add": CONFINED}}
SCRIPT = """\
unshare --user --map-root-user --mount true 2>/dev/null && echo namespace
unshare --user --map-root-user --mount --pid --fork --mount-proc true 2>/dev/null && echo proc
mkdir /tmp/b
unshare --user --map-root-user --mount sh -c '
  mount -t tmpfs t /tmp/b && cd /tmp/b && mkdir u w m && mount -t overlay o -o lowerdir=/usr/lib,upperdir=u,workdir=w m
' 2>/dev/null && echo overlay
true
"""


@pytest.mark.parametrize(
    ("users", "context", "may"),
    [
        pytest.param(True, {}, {"namespace", "overlay"}, id="plain"),
        pytest.param(True, RUNTIME_DEFAULT, set(), id="hardened"),
        pytest.param(False, {}, {"namespace", "overlay"}, id="userns"),
        pytest.param(False, RUNTIME_DEFAULT, set(), id="userns-with-seccomp"),
        pytest.param(False, {"procMount": "Unmasked"}, {"namespace", "overlay", "proc"}, id="userns-unmasked"),
        pytest.param(False, STRICT, {"namespace", "overlay", "proc"}, id="userns-strict"),
    ],
)
def test_a_pod_can_create_what_its_security_context_allows(
    cluster: Cluster, namespace: str, users: bool, context: dict[str, Any], may: set[str]
) -> None:
    container = {"securityContext": context}
    command = ["sh", "-c", SCRIPT]
    output = cluster.run_pod(
        "may", "debian:trixie-slim", command, namespace=namespace, hostUsers=users, container=container
    )
    assert set(output.split()) == may
