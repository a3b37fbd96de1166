"""Ends what a command left behind where no PID namespace does it: in the rungs ``root`` and ``chroot``.

Reads /proc and sends signals. Called by ``sandbox.direct``, in the subreaper to which orphans come, and by
``sandbox.helper`` when a build is cancelled.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time

# Children made with clone(2) and no SIGCHLD are waited for as well.
_WALL = 0x40000000
_PAUSE_S = 0.002
_PATIENCE_S = 20.0


def kill_descendants(proc: int, root: int) -> list[int]:
    """Kill every process below ``root``; the ones found. ``proc`` is a descriptor of /proc."""
    parents = _parents(proc)
    below: list[int] = []
    frontier = {root}
    while frontier:
        frontier = {pid for pid, parent in parents.items() if parent in frontier}
        below.extend(frontier)
    # Stopped first, so that none of them can start another while the next one is killed.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
    return below


def end_all(proc: int) -> None:
    """Kill and reap this process's descendants until there are none. Orphans become its children (subreaper).

    Raises:
        OSError: when some live on: processes that become others faster than they are found.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        kill_descendants(proc, os.getpid())
        try:
            while os.waitpid(-1, os.WNOHANG | _WALL)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(_PAUSE_S)
    raise OSError(errno.EBUSY, "processes that the command left behind can't be ended")


def _parents(proc: int) -> dict[int, int]:
    found = {}
    for name in os.listdir(proc):
        if name.isdigit():
            try:
                with os.fdopen(os.open(f"{name}/stat", os.O_RDONLY, dir_fd=proc), "rb") as file:
                    # The name between the parentheses may hold anything, parentheses too.
                    found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue  # it ended meanwhile
    return found
