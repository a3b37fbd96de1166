"""Several processes that run commands, so that stages can run side by side.

Forks them, before the engine starts its first thread. Called by ``sandbox.choose``; ``run`` by any thread.
"""

from __future__ import annotations

import queue
from collections.abc import Callable

from imagewright.contract import SandboxKind
from imagewright.sandbox.helper import Helper
from imagewright.sandbox.model import RunCommand


class Helpers:
    """Each runs one command at a time; who asks waits for one that is free."""

    def __init__(self, work_dir: str, count: int) -> None:
        self._all: list[Helper] = []
        try:
            for _ in range(count):
                self._all.append(Helper(work_dir))
        except BaseException:
            self.close()
            raise
        self._free: queue.SimpleQueue[Helper] = queue.SimpleQueue()
        for helper in self._all:
            self._free.put(helper)

    def __len__(self) -> int:
        return len(self._all)

    def keep_one(self) -> None:
        """End all but one: where only one command can run at a time. Called before the first one is asked for."""
        while len(self._all) > 1:
            self._all.remove(helper := self._free.get())
            helper.close()

    def run(self, kind: SandboxKind, command: RunCommand, output: Callable[[bytes], None]) -> int:
        """As ``Helper.run``. One that ended says so again to everybody who gets it, rather than have them wait for ever.

        Raises:
            SandboxError
        """
        helper = self._free.get()
        try:
            return helper.run(kind, command, output)
        finally:
            self._free.put(helper)

    def close(self) -> None:
        """End them all, and the commands that they run: those who wait for one get a SandboxError."""
        for helper in self._all:
            helper.close()
