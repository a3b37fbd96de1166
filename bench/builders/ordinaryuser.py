"""Starts a program as an ordinary user who is root of a user namespace.

``python -m bench.builders.ordinaryuser PROGRAM ARGUMENT…``, to be run as root: that gives a range of ids to the new
namespace as newuidmap would, without entries in /etc/subuid. Forks a process that does so and ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from imagewright.sandbox.kernel import linux

USER = 2_000_000  # beyond the ids that machines give to people and services
_COUNT = 65536


def main(command: list[str]) -> None:
    """Become the program."""
    unshared_read, unshared_write = os.pipe()
    mapped_read, mapped_write = os.pipe()
    if os.fork() == 0:
        os.read(unshared_read, 1)
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{os.getppid()}/{kind}").write_text(f"0 {USER} {_COUNT}")
        os.write(mapped_write, b"m")
        os._exit(0)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    linux.unshare(linux.CLONE_NEWUSER | linux.CLONE_NEWNS)
    os.write(unshared_write, b"u")
    if os.read(mapped_read, 1) != b"m":
        sys.exit("cannot map ids into the user namespace")
    os.wait()
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
