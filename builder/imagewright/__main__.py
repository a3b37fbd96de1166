"""The program ``imagewright``, and ``python -m imagewright``."""

from __future__ import annotations

import io
import os
import sys

from imagewright.cli import commands


def main() -> None:
    """Run a command; the executor image calls the same program by kaniko's name."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file's name need not be UTF-8
    names = {"executor": commands.executor, "warmer": commands.warmer}
    run = names.get(os.path.basename(sys.argv[0]), commands.main)
    sys.exit(run(sys.argv[1:], os.environ))


if __name__ == "__main__":
    main()
