"""The network of a RUN, as documented in docs/sandbox.md: in new network namespaces with the kernel's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

HERE = Path(__file__).parent
NO_PORT, NO_SOCKET = "Permission denied", "Operation not permitted"
# As a machine has them, and as a Pod may ask for them.
MACHINE, POD = {"port": "1024", "groups": "1 0"}, {"port": "0", "groups": "0 65535"}
NETWORK = """
    echo $PORT > /proc/sys/net/ipv4/ip_unprivileged_port_start
    echo "$GROUPS_MAY" > /proc/sys/net/ipv4/ping_group_range
    exec "$@" """


@pytest.mark.parametrize(
    ("kind", "settings", "expected"),
    [
        ("namespace", MACHINE, f"low port {NO_PORT}, ping {NO_PORT}, raw {NO_SOCKET}"),
        ("namespace", POD, f"low port yes, ping yes, raw {NO_SOCKET}"),
        ("chroot", MACHINE, f"low port yes, ping {NO_PORT}, raw yes"),
    ],
)
def test_network_of_the_container(kind: str, settings: dict[str, str], expected: str, rootfs: Path, work: Path) -> None:
    words = [sys.executable, HERE / "engine_process.py", kind, work, rootfs, "/bin/attack sockets"]
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", NETWORK, "sh", *words],
        env={"PATH": os.environ["PATH"], "PORT": settings["port"], "GROUPS_MAY": settings["groups"]},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines()[1:] == [expected], done


def test_network_none_uses_a_new_namespace(rootfs: Path, work: Path) -> None:
    words = [sys.executable, HERE / "network_process.py", "namespace", work, rootfs, "/bin/attack", "sockets"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout == f"low port yes, ping {NO_PORT}, raw yes\n", done
