"""The program ``imagewright``, and ``python -m imagewright``."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import stat
import sys
from types import FrameType

_RUNNER_SOCKET = "/kaniko/runner/socket"  # contract.RUNNER_SOCKET, which takes long to import


def main() -> None:
    """Run a command; the executor image calls the same program by kaniko's name."""
    if os.getpid() == 1:
        # The kernel delivers to a container's first process only signals that it handles: without these handlers, an
        # eviction during the start, or while warming or pushing, would wait for the whole grace period.
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
    from imagewright.cli import main as cli  # noqa: PLC0415 -- takes time, during which a signal may arrive

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # like stderr: names of files need not be UTF-8
    names = {"executor": cli.executor, "warmer": cli.warmer}
    run = names.get(os.path.basename(sys.argv[0]), cli.main)
    sys.exit(run(sys.argv[1:], os.environ))


def _end(number: int, frame: FrameType | None) -> None:
    if sys.argv[1:2] == ["execute"]:
        with contextlib.suppress(OSError):  # as sandbox.runner.container.dismiss
            os.mknod(_RUNNER_SOCKET, stat.S_IFSOCK | 0o600)
    os._exit(128 + number)


if __name__ == "__main__":
    main()
