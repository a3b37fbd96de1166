"""Which sandbox mode is chosen with which capabilities: without each one, and with those that clusters commonly grant.

As in a Pod's container the marker of the executor image exists, the root is pivoted, and capabilities are those of the
bounding set. There is no seccomp filter.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

PROCESS = Path(__file__).parent / "choice_process.py"
LAST = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
NAMESPACE = "namespace: user and mount namespaces are available"
# Capabilities needed to map ids other than one's own, and root (user_namespaces(7)).
NEEDED = {7: "SETUID", 6: "SETGID", 31: "SETFCAP"}

CONTAINER = """
    base=$1; shift
    mount -t tmpfs tmpfs $base
    for name in /*; do
      if [ -L $name ]; then cp -P $name $base$name
      elif [ -d $name ]; then mkdir $base$name; mount --rbind $name $base$name; fi
    done
    mkdir $base/imagewright; touch $base/imagewright/executor-image
    cd $base; pivot_root . .; umount -l .; cd /
    exec "$@" """

DEFAULT = """chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod
    audit_write setfcap""".split()
RUN_AS_ROOT = """chown dac_override fowner setgid setuid""".split()

Choice = Callable[[str, Sequence[str]], list[str]]


@pytest.fixture
def choice(tmp_path: Path) -> Choice:
    """The modes chosen by processes with these bounding sets, in the notation of setpriv(1)."""

    def choose(kind: str, bounding_sets: Sequence[str]) -> list[str]:
        base, work = tmp_path / "base", tmp_path / "work"
        base.mkdir()
        work.mkdir()
        each = 'work=$1; shift; for set; do setpriv --bounding-set=$set --inh-caps=-all "$PYTHON" "$PROCESS" "$KIND" $work; done'
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-euc", CONTAINER, "sh", base, "sh", "-c", each, "sh", work, *bounding_sets],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHON": sys.executable, "PROCESS": PROCESS, "KIND": kind},
            capture_output=True,
            text=True,
            timeout=600,  # where one hangs
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout.splitlines()

    return choose


def unmapped(missing: str) -> str:
    return (
        "cannot map user and group ids into a new user namespace: Operation not permitted "
        f"(missing capabilities: {missing})"
    )


def fallen_back(missing: str) -> str:
    reason = "it is not a security boundary: RUN can read whatever the container can"
    return f"root: namespaces are not available: {unmapped(missing)}; {reason}"


def test_mode_without_each_capability(choice: Choice) -> None:
    chosen = choice("auto", [f"-cap_{number}" for number in range(LAST + 1)])
    expected = [fallen_back(NEEDED[number]) if number in NEEDED else NAMESPACE for number in range(LAST + 1)]
    assert dict(enumerate(chosen)) == dict(enumerate(expected))


LISTS = [
    ("container runtimes' default", DEFAULT, NAMESPACE),
    ("Pod Security: baseline, all that may be added", [n for n in DEFAULT if n != "net_raw"], NAMESPACE),
    ("Pod Security: restricted, as root", ["net_bind_service"], fallen_back("SETUID, SETGID, SETFCAP")),
    ("all dropped", [], fallen_back("SETUID, SETGID, SETFCAP")),
    ("all dropped, what root needs in a container added", RUN_AS_ROOT, fallen_back("SETFCAP")),
    ("Shipwright: kaniko", [*RUN_AS_ROOT, "setfcap", "kill"], NAMESPACE),
    ("Shipwright: kaniko before SETFCAP was added", RUN_AS_ROOT, fallen_back("SETFCAP")),
    ("Shipwright: buildah", [*DEFAULT, "setfcap"], NAMESPACE),
    ("Shipwright: buildah, all others dropped", ["setfcap"], fallen_back("SETUID, SETGID")),
    ("Tekton: kaniko, buildah", DEFAULT, NAMESPACE),
    ("Tekton: set-security-context, as root", [], fallen_back("SETUID, SETGID, SETFCAP")),
    ("only SYS_ADMIN", ["sys_admin"], fallen_back("SETUID, SETGID, SETFCAP")),
    ("everything", [f"cap_{number}" for number in range(LAST + 1)], NAMESPACE),
]


def test_mode_with_capabilities_of_common_clusters(choice: Choice) -> None:
    sets = [",".join(["-all", *(f"+{name}" for name in names)]) for _, names, _ in LISTS]
    chosen = choice("auto", sets)
    assert dict(zip((name for name, _, _ in LISTS), chosen, strict=True)) == {name: why for name, _, why in LISTS}


def test_requested_mode_fails_naming_missing_capabilities(choice: Choice) -> None:
    chosen = choice("namespace", ["-all", *(f"-cap_{number}" for number in NEEDED)])
    assert chosen == [
        f"error: the namespace sandbox is not available: {unmapped(missing)} [SandboxUnavailable] "
        f"hint: Add {missing} to the container's capabilities, or build in the executor image with --sandbox=root."
        for missing in ("SETUID, SETGID, SETFCAP", *NEEDED.values())
    ]
