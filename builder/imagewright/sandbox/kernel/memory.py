"""What the kernel has done about the memory of this process's control group: how often it killed, and at what use.

Reads files of /sys/fs/cgroup, of either version of it. Called by ``engine.run``, before and after a command, to say of
one that was killed whose memory had run out. Where nothing can be read, nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MACHINE = Path("/proc/vmstat")
_UNLIMITED = 1 << 62  # version 1 writes the largest number of whole pages for "no limit"


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """``kills``: processes of the group that the kernel has killed, whether the group's own limit was reached or one
    above it. Sizes are bytes; ``limit`` is None for none of its own, ``peak`` where the kernel is too old to keep it.
    """

    kills: int
    peak: int | None
    limit: int | None

    @property
    def reached_limit(self) -> bool:
        """Whether the limit may have been what a process was killed for.

        When it is, the peak is short of it by what one request can ask for, and by what the container shares its Pod's
        limit with. The other way round nothing follows: files that were written fill memory up to the limit, too.
        """
        if self.limit is None or self.peak is None:
            return self.limit is not None
        return self.peak >= self.limit - max(self.limit // 20, 8 << 20)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the kernel has counted so far: of this process's group, and how many processes it killed on the whole machine.
    None is what can't be seen.
    """

    group: MemoryUse | None
    machine_kills: int | None


def counts() -> Counts:
    """Those of this moment."""
    return Counts(memory_use(), _machine_kills())


def _machine_kills(path: Path = _MACHINE) -> int | None:
    try:
        return _counts(path)["oom_kill"]  # since Linux 4.13
    except (OSError, ValueError, KeyError):
        return None


def memory_use(root: Path = _ROOT, process: Path = Path("/proc/self/cgroup")) -> MemoryUse | None:
    """Of the group that this process is in, as far as it is visible; None where it isn't."""
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
        # A container sees its own group as the top one, though its path may be that of the host.
        for directory in (top / path.lstrip("/"), top):
            if (found := _read(read, directory)) is not None:
                return found
    return None


def _read(read: Callable[[Path], MemoryUse], directory: Path) -> MemoryUse | None:
    try:
        return read(directory)
    except (OSError, ValueError, KeyError):  # not there, or in a form that this kernel doesn't write
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
