"""The program as a container's first process, which the kernel treats unlike others."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster.processes import eventually

pytestmark = pytest.mark.root


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_whatever_it_does(number: signal.Signals) -> None:
    """The kernel keeps signals without a handler from it: a Pod would wait out its grace period."""
    command = ["unshare", "--pid", "--fork", sys.executable, "-m", "imagewright", "login", "example.com"]
    login = [*command, "--username=me", "--password-stdin"]
    with subprocess.Popen(login, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        eventually(lambda: bool(children.read_text()), "the first process")
        first = children.read_text().strip()
        # Python's own handler of SIGINT is there before the program is: ours take SIGTERM as well.
        eventually(lambda: _catches(first, signal.SIGTERM), "the program's own handlers")

        def ended() -> bool:
            subprocess.run(["kill", f"-{number.value}", first], check=False, stderr=subprocess.DEVNULL)
            return process.poll() is not None

        try:
            eventually(ended, "it to end")
        finally:
            if process.poll() is None:
                subprocess.run(["kill", "-KILL", first], check=False)
    assert process.returncode == 128 + number


def _catches(pid: str, number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal (proc_pid_status(5), SigCgt)."""
    status = Path(f"/proc/{pid}/status").read_text()
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(mask >> (number.value - 1) & 1)
