"""The bound on a command's processes, in user namespaces of a user who is not the machine's root, as in a Pod."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from imagewright.sandbox.kernel.processlimit import MOST, bound_processes

pytestmark = pytest.mark.root

# Counts the processes that it gets, in a further namespace, as a command of the ``namespace`` sandbox has. With an
# argument the first one is in a namespace as a Pod's.
FORKS = """\
import os, resource, signal, socket, sys
from pathlib import Path
from imagewright.sandbox.kernel import linux
from imagewright.sandbox.kernel.processlimit import bound_processes
ours, theirs = socket.socketpair()
if sys.argv[1:] and (pod := os.fork()):
    ours.recv(1)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pod}/{name}").write_text("0 100000 65536")
    ours.send(b"x")
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pod, 0)[1]))
if sys.argv[1:]:
    linux.unshare(linux.CLONE_NEWUSER)
    theirs.send(b"x")
    theirs.recv(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
bound_processes(12)
linux.unshare(linux.CLONE_NEWUSER)
started = []
try:
    while len(started) < 40:
        if not (pid := os.fork()):
            signal.pause()
        started.append(pid)
except OSError as error:
    print(error.strerror, end=" ")
for pid in started:
    os.kill(pid, signal.SIGKILL)
print(len(started))
"""


def forks(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_in_a_namespace_of_the_pods_own_is_bound() -> None:
    assert forks("pod") == "Resource temporarily unavailable 11\n"


def test_among_the_machines_own_ids_nothing_is_set() -> None:
    """Other Pods' processes of the same user would count."""
    assert forks() == "40\n"
    before = resource.getrlimit(resource.RLIMIT_NPROC)
    bound_processes()
    assert resource.getrlimit(resource.RLIMIT_NPROC) == before


def test_a_lower_limit_is_kept(tmp_path: Path) -> None:
    of_a_pod = tmp_path / "uid_map"
    of_a_pod.write_text("         0     100000      65536\n")
    script = f"""
import resource
from pathlib import Path
from imagewright.sandbox.kernel.processlimit import bound_processes
bound_processes(id_map=Path({str(of_a_pod)!r}))
print(resource.getrlimit(resource.RLIMIT_NPROC))
"""

    def limits(given: str) -> str:
        command = ["prlimit", f"--nproc={given}", sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert limits("700:800") == "(700, 800)"
    assert limits(f"700:{MOST + 1}") == f"(700, {MOST})"
    assert limits(f"{MOST + 1}:{MOST + 2}") == f"({MOST}, {MOST})"
