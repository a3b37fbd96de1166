"""The memory of a builder: all its processes, sampled.

Reads /proc. The memory of a process is its proportional share (PSS, proc_pid_smaps(5)), so that what processes share
counts once. A process belongs to the builder if it descends from this one and wasn't there before: orphans come to this
process, which asks the kernel for that.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

_INTERVAL_S = 0.1
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(slots=True)
class Peak:
    """In KiB. ``tree`` is the whole process tree; ``own`` leaves out the commands of RUN."""

    tree: int = 0
    own: int = 0
    own_files: frozenset[tuple[int, int]] = field(default_factory=frozenset)

    def sample(self, processes: Iterable[int]) -> None:
        tree = own = 0
        for process in processes:
            size = _share(process)
            tree += size
            own += size if _program(process) in self.own_files else 0
        self.tree, self.own = max(self.tree, tree), max(self.own, own)


def adopt_orphans() -> None:
    """From now on orphans among the descendants become this process's children."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children_now() -> frozenset[int]:
    """The direct children of this process: what runs already belongs to no build."""
    return frozenset(_children(os.getpid()))


@contextmanager
def watched(programs: Iterable[Path], others: frozenset[int]) -> Iterator[Peak]:
    """Sample until the end. ``programs`` are the builder's own; ``others`` are children that aren't it."""
    identities = (program.stat() for program in programs)
    peak = Peak(own_files=frozenset((info.st_dev, info.st_ino) for info in identities))
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_INTERVAL_S):
            peak.sample(_descendants(os.getpid(), others))

    thread = threading.Thread(target=watch, name="memory")
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _descendants(process: int, others: frozenset[int]) -> Iterator[int]:
    for child in _children(process):
        if child not in others:
            yield child
            yield from _descendants(child, frozenset())


def _children(process: int) -> list[int]:
    found: list[int] = []
    with suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{process}/task"):
            with suppress(OSError):
                found += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
    return found


def _share(process: int) -> int:
    with suppress(OSError), open(f"/proc/{process}/smaps_rollup", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def _program(process: int) -> tuple[int, int] | None:
    with suppress(OSError):
        info = os.stat(f"/proc/{process}/exe")
        return info.st_dev, info.st_ino
    return None
