"""The program ``imagewright``, and ``python -m imagewright``."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run a command; the executor image calls the same program by kaniko's name."""
    if os.getpid() == 1:
        # The kernel gives a container's first process only the signals that it has handlers for: without one, an
        # eviction that comes while this starts, or while it warms or pushes, would wait out the grace period.
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
    from imagewright.cli import commands  # noqa: PLC0415 -- takes half a second, in which a signal may come

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file's name need not be UTF-8
    names = {"executor": commands.executor, "warmer": commands.warmer}
    run = names.get(os.path.basename(sys.argv[0]), commands.main)
    sys.exit(run(sys.argv[1:], os.environ))


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
