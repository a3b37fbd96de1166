"""Memory of this process's control group: usage, limit, and how often the kernel killed a process for it.

Reads /sys/fs/cgroup, of either version. Read before and after a command, it tells whose memory was exhausted when the
command was killed. What cannot be read is None. Also undoes what a command did to this process's own score.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from imagewright.sandbox.model import Counts, MemoryUse

_ROOT = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")
_UNLIMITED = 1 << 62  # version 1 writes the largest number of whole pages for "no limit"


def counts() -> Counts:
    """The present counters."""
    return Counts(memory_use(), _machine_kills())


class OomScore:
    """This process's adjustment of the kernel's choice of whom to kill for lack of memory (proc_pid_oom_score_adj(5)).

    A command that sees the process may raise it, and no process without privileges may lower it below what it was.
    """

    def __init__(self, path: Path = Path("/proc/self/oom_score_adj")) -> None:
        self._path = path
        try:
            self._value = path.read_text()
        except OSError:
            self._value = ""

    def restore(self) -> None:
        """To be called after each command."""
        if self._value:
            with contextlib.suppress(OSError):
                self._path.write_text(self._value)


def _machine_kills(path: Path = _MACHINE) -> int | None:
    try:
        return _counts(path)["oom_kill"]  # since Linux 4.13
    except (OSError, ValueError, KeyError):
        return None


def memory_use(root: Path = _ROOT, process: Path = Path("/proc/self/cgroup")) -> MemoryUse | None:
    """The memory use of this process's group; None if it is not visible."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            top, read = root, _unified
        elif "memory" in controllers.split(","):
            top, read = root / "memory", _legacy
        else:
            continue
        # A container sees its own group as the topmost one, although the path may be that of the host.
        for directory in (top / path.lstrip("/"), top):
            if (found := _read(read, directory)) is not None:
                return found
    return None


def _read(read: Callable[[Path], MemoryUse], directory: Path) -> MemoryUse | None:
    try:
        return read(directory)
    except (OSError, ValueError, KeyError):  # missing, or in an unknown format
        return None


def _unified(directory: Path) -> MemoryUse:
    limit = (directory / "memory.max").read_text().strip()
    peak = directory / "memory.peak"  # since Linux 5.19
    used = int(peak.read_text()) if peak.exists() else None
    return MemoryUse(_counts(directory / "memory.events")["oom_kill"], used, None if limit == "max" else int(limit))


def _legacy(directory: Path) -> MemoryUse:
    limit = int((directory / "memory.limit_in_bytes").read_text())
    peak = int((directory / "memory.max_usage_in_bytes").read_text())
    kills = _counts(directory / "memory.oom_control")["oom_kill"]
    return MemoryUse(kills, peak, None if limit >= _UNLIMITED else limit)


def _counts(path: Path) -> dict[str, int]:
    return {name: int(count) for name, count in (line.split() for line in path.read_text().splitlines())}
