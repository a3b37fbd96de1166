"""Kills what a command left behind, or a cancelled build, where no PID namespace does it.

Reads /proc and sends signals. Orphans are found as children of the subreaper.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterable

# Also waits for children of clone(2) without SIGCHLD.
_WALL = 0x40000000
_PAUSE_S = 0.002
_PATIENCE_S = 20.0


def kill_descendants(proc: int, root: int) -> list[int]:
    """Kill all descendants of ``root``; returns their pids. ``proc`` is a descriptor of /proc."""
    parents = _parents(proc)
    below: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        below.extend(frontier)
    # Stopped first, so that none of them can fork while others are killed.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return below


def await_end(proc: int, pids: Iterable[int], patience_s: float = _PATIENCE_S) -> None:
    """Wait until killed processes have exited, reaped or not; at most ``patience_s``, as one may hang in the kernel."""
    deadline = time.monotonic() + patience_s
    while any(_lives(proc, pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def end_all(proc: int) -> None:
    """Kill and reap this process's descendants until none is left. Orphans become its children (subreaper).

    Raises:
        OSError: some remain, which fork faster than they are found.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        try:
            while os.waitpid(-1, os.WNOHANG | _WALL)[0]:
                pass
        except ChildProcessError:
            return
        kill_descendants(proc, os.getpid())
        time.sleep(_PAUSE_S)
    raise OSError(errno.EBUSY, "cannot kill the processes that the command left behind")


def _parents(proc: int) -> dict[int, int]:
    found = {}
    for pid in map(int, filter(str.isdigit, os.listdir(proc))):
        with contextlib.suppress(OSError):  # it has exited
            found[pid] = int(_stat(proc, pid)[1])
    return found


def _lives(proc: int, pid: int) -> bool:
    try:
        return _stat(proc, pid)[0] not in (b"Z", b"X")
    except OSError:
        return False


def _stat(proc: int, pid: int) -> list[bytes]:
    """State, parent and so on (proc_pid_stat(5))."""
    with os.fdopen(os.open(f"{pid}/stat", os.O_RDONLY, dir_fd=proc), "rb") as file:
        # The name in parentheses may contain anything, including parentheses.
        return file.read().rpartition(b")")[2].split()
