"""What is mounted below a folder, as the kernel's table of this process says it (proc_pid_mountinfo(5)).

Reads /proc/self/mountinfo.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

_TABLE = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """``path`` is relative to the folder that was asked about; ``number`` is the mount's own, wherever it is moved to."""

    number: int
    path: bytes
    read_only: bool


def mounts_below(folder: str) -> tuple[MountPoint, ...]:
    """Everything that is mounted below ``folder``: the cluster's files, volumes and secrets; not what it itself is.

    Raises:
        OSError
    """
    with open(_TABLE, "rb") as file:
        return parse_mountinfo(file.read(), os.fsencode(os.path.realpath(folder)))


def parse_mountinfo(table: bytes, folder: bytes = b"/") -> tuple[MountPoint, ...]:
    """The same of a table's text, which has white space in paths as octal numbers."""
    prefix = folder.rstrip(b"/") + b"/"
    found = []
    for line in table.split(b"\n"):
        if not line:
            continue
        fields = line.split(b" ")
        path = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), fields[4])
        if path.startswith(prefix) and path != prefix:
            found.append(MountPoint(int(fields[0]), path[len(prefix) :], b"ro" in fields[5].split(b",")))
    return tuple(found)
