"""Runs the engine until a test sends it SIGTERM, as the time-out of an ImageBuild does, and what all such builds show.

Starts a process.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE_S = 45  # less than the silence that the engine bears: a minute for an answer, ten for that to an upload


class Running:
    """The engine while it runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def wait_for(self, happened: Callable[[float], bool]) -> None:
        """Call ``happened`` with seconds that it may wait, until it is True, or the engine has ended."""
        while not happened(0.2):
            assert self._process.poll() is None, self._process.communicate()[1]


def cancelled(command: Sequence[str], work: Path, reach: Callable[[Running], None]) -> str:
    """The log of a build, cancelled once ``reach`` returns, which leaves nothing in its folder ``work``."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            reach(Running(process))
            process.terminate()
            log = process.communicate(timeout=PATIENCE_S)[1]
        finally:
            process.kill()
    assert process.returncode == 130, log
    assert "[Cancelled]" in log
    assert "Traceback" not in log
    assert list(work.glob("*")) == []
    return log
