"""A runner whose engine fails before it needs commands run: it ends at once, and with it the Pod."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from containers.container import empty_container
from containers.pod import Pod, empty_pod
from imagebuilds.waiting import eventually

from imagewright.contract import REQUEST_ENV

pytestmark = [pytest.mark.root]


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return empty_pod(tmp_path / "pod")


def executor(pod: Pod, request: str) -> subprocess.Popen[str]:
    """The executor as a container's first process, which has nothing but the directory that it shares."""
    container = empty_container(pod.directory / "executor-container")
    container.mounted["kaniko/runner"] = pod.directory / "runner"
    command = container.command("execute")
    command[1:1] = ["--pid", "--fork", "--kill-child", "--mount-proc"]
    return subprocess.Popen(
        command,
        env={**container.environment, REQUEST_ENV: request},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def ends(runner: subprocess.Popen[str]) -> None:
    try:
        assert runner.communicate(timeout=60)[0] == ""
        assert runner.returncode == 0
    finally:
        runner.kill()


def test_the_runner_ends_with_a_build_that_fails_before_it_begins(pod: Pod) -> None:
    request = pod.request(pod.context("FROM base\n"))
    output = replace(request.output, destinations=("UPPER/x y",))
    pod.execute(replace(request, output=output))
    assert '"reason":"ReferenceInvalid"' in pod.log
    assert pod.runner_code == 0


def test_the_runner_ends_with_an_executor_that_cannot_read_its_request(pod: Pod) -> None:
    runner = pod.start_runner()
    assert '"reason":"UsageInvalid"' in executor(pod, "not a request").communicate(timeout=60)[0]
    ends(runner)


def test_the_runner_ends_with_an_executor_that_is_stopped_while_it_starts(pod: Pod) -> None:
    runner = pod.start_runner()
    engine = executor(pod, pod.request(pod.context("FROM base\n")).encode())
    first = eventually(lambda: _handling(engine.pid), "the executor's own handler of signals")
    os.kill(first, signal.SIGTERM)
    engine.communicate(timeout=60)
    assert engine.returncode == 128 + signal.SIGTERM
    ends(runner)


def _handling(parent: int) -> int | None:
    """The first child of a process, once it has a handler for SIGTERM (proc_pid_status(5), SigCgt)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    if not children:
        return None
    status = Path(f"/proc/{children[0]}/status").read_text()
    (mask,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt:"))
    return int(children[0]) if mask >> (signal.SIGTERM - 1) & 1 else None


def test_the_runner_ends_with_an_engine_that_is_killed_before_it_accepts(pod: Pod) -> None:
    """Its socket ends with it."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(pod.socket))
        listener.listen()
        runner = pod.start_runner()
        assert select.select([listener], [], [], 60)[0], "the runner has not connected"
    ends(runner)
