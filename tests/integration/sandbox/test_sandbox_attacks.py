"""A hostile RUN attacks the secret, the files and the processes of an engine; and which mode is chosen where.

Environments are created with unshare(1) and mount(8): a container with a masked /proc, as in a Pod, and one with the
marker of the executor image that cannot create user namespaces.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Engine, Running

pytestmark = pytest.mark.root

HERE = Path(__file__).parent


# A PID namespace whose /proc isn't whole: in a user namespace below, the kernel refuses a fresh one, as in Pods.
MASKED = "umount -l /proc; mount -t proc proc /proc; mount --bind /dev/null /proc/keys; exec "

# The container's own / is a directory: the kernel refuses user namespaces below chroot(2), as seccomp does in Pods.
EXECUTOR = """
    mount -t tmpfs tmpfs {base}
    for name in /*; do
      target={base}$name
      if [ -L $name ]; then cp -P $name $target
      elif [ -d $name ]; then mkdir $target; mount --rbind $name $target; fi
    done
    mkdir {base}/imagewright; touch {base}/imagewright/executor-image
    exec chroot {base} """

# As in a Pod the engine has no more capabilities than RUN: nothing but its own precautions keeps RUN out.
AS_IN_A_POD = "setpriv --bounding-set -all," + ",".join(
    f"+{name}"
    for name in """chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod
    audit_write setfcap""".split()
)


def test_secret_is_unreachable_with_hidden_processes(engine: Engine, environment: dict[str, str]) -> None:
    done = engine("namespace", "exec /bin/attack spy")
    assert "seen 1 open 0\n" in done.stdout  # process 1 of its own PID namespace
    assert environment["SECRET"] not in done.stdout


def test_secret_is_unreachable_with_visible_processes(engine: Engine, environment: dict[str, str]) -> None:
    done = engine("auto", "exec /bin/attack spy", MASKED)
    assert done.stdout.startswith("namespace: "), done
    seen, opened = done.stdout.splitlines()[-1].split()[1::2]
    assert int(seen) >= 4, "the engine and its runners are there to be attacked"
    assert opened == "0", done.stdout
    assert environment["SECRET"] not in done.stdout


def test_engine_arguments_are_hidden(engine: Engine) -> None:
    done = engine("namespace", "cat /proc/[0-9]*/cmdline; : token-in-an-argument", MASKED)
    shown = done.stdout.replace("cat /proc/[0-9]*/cmdline; : token-in-an-argument", "", 1)
    assert "token-in-an-argument" not in shown, "the command sees its own arguments and no others"


def test_namespace_root_cannot_access_engine_processes(engine: Engine) -> None:
    done = engine("namespace", "kill -9 -1; for i in 1 2 3 4 5 6 7 8 9; do kill -9 $i; done; echo alive", MASKED)
    assert done.returncode in (0, 137)
    assert done.stdout.startswith("namespace: ")


@pytest.mark.parametrize("kind", ["namespace", "chroot"])
def test_nested_chroot_does_not_escape(engine: Engine, kind: str, rootfs: Path) -> None:
    (rootfs.parent / "outside-marker").touch()
    done = engine(kind, "exec /bin/attack escape")
    assert "outside reached" not in done.stdout
    if kind == "chroot":
        assert "chroot: Operation not permitted" in done.stdout
    else:
        assert "entry bin\n" in done.stdout, "as far up as one can climb is still the root file system"


def test_auto_falls_back_to_root_in_the_executor_image(engine: Engine, rootfs: Path) -> None:
    done = engine("auto", "id -u; exec /bin/true", EXECUTOR.format(base=rootfs.parent))
    first, *rest = done.stdout.splitlines()
    assert first.startswith("root: "), done
    assert "unshare(CLONE_NEWUSER): Operation not permitted" in first
    assert rest == ["0"]


def test_engine_memory_is_protected_in_root_mode(
    engine: Engine, rootfs: Path, programs: Path, environment: dict[str, str]
) -> None:
    script = f"exec {programs}/attack spy"
    done = engine(
        "root",
        script,
        "umount -l /proc; mount -t proc proc /proc; " + EXECUTOR.format(base=rootfs.parent) + AS_IN_A_POD,
    )
    assert done.stdout.startswith("root: requested explicitly"), done
    seen, opened = done.stdout.splitlines()[-1].split()[1::2]
    assert int(seen) >= 2
    assert opened == "0", done.stdout
    assert environment["SECRET"] not in done.stdout


def test_root_mode_is_refused_outside_the_executor_image(engine: Engine) -> None:
    done = engine("root", "echo never")
    assert done.returncode == 99
    assert "only available in the executor image" in done.stdout
    assert "[SandboxUnavailable]" in done.stdout
    assert "never" not in done.stdout


def test_error_names_the_refused_system_call(engine: Engine, rootfs: Path) -> None:
    prelude = EXECUTOR.format(base=rootfs.parent).replace("touch", ": touch")
    done = engine("auto", "echo never", prelude)
    assert done.returncode == 99
    assert "unshare(CLONE_NEWUSER): Operation not permitted [SandboxUnavailable]" in done.stdout


def test_chroot_error_names_the_missing_capability(engine: Engine) -> None:
    prelude = "exec setpriv --bounding-set -sys_chroot --inh-caps -sys_chroot"
    done = engine("chroot", "echo never", prelude)
    assert done.returncode == 99
    assert "chroot: Operation not permitted" in done.stdout
    assert "SYS_CHROOT" in done.stdout


@pytest.mark.parametrize("kind", ["namespace", "chroot"])
def test_command_dies_with_the_engine(
    kind: str, rootfs: Path, work: Path, environment: dict[str, str], running: Running
) -> None:
    name = f"8{time.time_ns() % 10**9}"
    command = [
        sys.executable,
        str(HERE / "engine_process.py"),
        kind,
        str(work),
        str(rootfs),
        f"echo ready; exec sleep {name}",
    ]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "ready\n":
            assert process.poll() is None
        running.await_start(f"sleep\0{name}")
        process.send_signal(signal.SIGKILL)
    running.await_end(f"sleep\0{name}")
