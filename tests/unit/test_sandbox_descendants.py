"""Killed processes are awaited, whoever their parent is, but not forever."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from imagewright.sandbox.processes.descendants import await_end


@pytest.fixture
def proc() -> Iterator[int]:
    fd = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_dying_processes_are_awaited(proc: int) -> None:
    with subprocess.Popen(["sleep", "0.5"]) as process:
        await_end(proc, [process.pid])
        assert state(process.pid) == "Z"
    await_end(proc, [process.pid])  # it has been reaped


def test_waiting_for_a_hanging_process_is_bounded(proc: int) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        await_end(proc, [process.pid], patience_s=0.1)
        assert state(process.pid) != "Z"
        process.kill()
