"""Killing a process of the sandbox, at any step of a start, leaves nobody waiting and no process alive."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagewright.contract.request import SandboxKind
from imagewright.errors import SandboxError
from imagewright.sandbox.model import RunCommand
from imagewright.sandbox.runner.client import Runner

if TYPE_CHECKING:
    from conftest import Running

pytestmark = pytest.mark.root

STEPPING = Path(__file__).parent / "stepping.py"
RAN, KILLED, GONE = "code 0", "code 137", "the process that runs commands exited unexpectedly"
# What the engine may be told of the run in which a process is killed, and of the next one. The command itself is well
# when it was over already, or when only what carries a socket for it was killed.
EXPECTED = {
    "engine": [[], [RAN]],
    "runner": [[GONE, GONE], [RAN, GONE]],
    "child": [[KILLED, RAN]],
    "grandchild": [[KILLED, RAN], [RAN, RAN]],
    "command": [[KILLED, RAN]],
}


@pytest.mark.parametrize(
    ("kind", "who", "least"),
    [
        ("namespace", "engine", 15),
        ("namespace", "runner", 50),
        ("namespace", "child", 20),
        ("namespace", "grandchild", 100),
        ("namespace", "command", 50),
        ("root", "engine", 15),
        ("root", "runner", 25),
        ("root", "child", 40),
        ("root", "grandchild", 60),
    ],
)
def test_kill_at_any_step_is_reported_to_the_engine(kind: str, who: str, least: int, rootfs: Path, work: Path) -> None:
    words = [kind, str(list(EXPECTED).index(who)), str(work), "/" if kind == "root" else str(rootfs), "/bin/true"]
    place = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
    done = subprocess.run([*place, sys.executable, STEPPING, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *steps, (_, _, undisturbed) = map(json.loads, done.stdout.splitlines())
    assert undisturbed == [RAN, RAN], "without a kill both run"
    assert len(steps) >= least
    assert [step for step in steps if step[2] not in EXPECTED[who]] == []


@pytest.mark.parametrize("kind", ["root", "chroot"])
def test_leftovers_of_a_killed_process_end_before_the_answer(
    kind: str, request: pytest.FixtureRequest, running: Callable[[str], list[str]]
) -> None:
    """A RUN may kill the process that would kill its daemons."""
    mode = request.getfixturevalue(kind)
    name = f"8{time.time_ns() % 10**9}"
    assert mode.sh(f"setsid sleep {name} & kill -9 $PPID; sleep {name}").code == 137
    assert running(f"sleep\0{name}") == []
    assert mode.sh("echo next").text == "next\n"


def test_command_of_an_ordinary_user_dies_with_the_runner(work: Path, running: Running) -> None:
    """A change of user resets the death signal of a process's parent."""
    name = f"7{time.time_ns() % 10**9}"
    runner = Runner(str(work))

    def kill(_: bytes) -> None:
        running.await_start(f"sleep\0{name}")
        os.kill(runner.pid, signal.SIGKILL)

    command = RunCommand("/", ("/bin/sh", "-c", f"echo here; exec sleep {name}"), (), "/", 1000, 1000)
    with pytest.raises(SandboxError, match=GONE):
        runner.run(SandboxKind.ROOT, command, kill)
    runner.close()
    running.await_end(f"sleep\0{name}")
