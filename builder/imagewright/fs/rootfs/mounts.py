"""Mounts below a directory: read from this process's mount table (proc_pid_mountinfo(5)), and moved elsewhere.

Reads /proc/self/mountinfo; renames directories of a root file system. The kernel refuses to rename a mount point, but
it renames a directory above one, and the mount moves with it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator

from imagewright.records import dataclass

_TABLE = "/proc/self/mountinfo"


@dataclass(frozen=True, slots=True)
class MountPoint:
    """``path`` is relative to the directory in question; ``number`` is the mount's id, which survives moves."""

    number: int
    path: bytes
    read_only: bool


def mounts_below(directory: str) -> tuple[MountPoint, ...]:
    """Everything that is mounted below ``directory``, itself not included.

    Raises:
        OSError
    """
    with open(_TABLE, "rb") as file:
        return parse_mountinfo(file.read(), os.fsencode(os.path.realpath(directory)))


def parse_mountinfo(table: bytes, directory: bytes = b"/") -> tuple[MountPoint, ...]:
    """The mounts in the text of a mount table, which escapes white space in paths as octal numbers."""
    prefix = directory.rstrip(b"/") + b"/"
    found = []
    for line in table.split(b"\n"):
        if not line:
            continue
        fields = line.split(b" ")
        path = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), fields[4])
        if path.startswith(prefix) and path != prefix:
            found.append(MountPoint(int(fields[0]), path[len(prefix) :], b"ro" in fields[5].split(b",")))
    return tuple(found)


def move_mounts(root: bytes, source: bytes, target: bytes, mounts: Iterable[bytes]) -> bool:
    """Move ``mounts`` from below the directory ``source`` to the same places below ``target``; False if impossible.

    Paths are relative to ``root`` and contain no links. ``source`` contains only the directories above ``mounts`` and
    is gone afterwards. It is impossible if a directory above a mount would replace an existing one, or if the file
    system cannot rename it (a directory of a lower layer of overlayfs).
    """
    for mount in mounts:
        parent = _below(target, mount[len(source) + 1 :].rpartition(b"/")[0])
        if not _is_free(root, parent):
            return False
    try:
        with _times_kept(root, target):
            os.makedirs(os.path.dirname(_below(root, target)), mode=0o755, exist_ok=True)
            _merge(_below(root, source), _below(root, target))
    except OSError:
        return False
    return True


def return_mount(root: bytes, now: bytes, before: bytes) -> None:
    """Move a mount, and others in the same directory, back from ``now`` to ``before``; removes directories left empty.

    Raises:
        OSError
    """
    source, target = (_below(root, path.rpartition(b"/")[0]) for path in (now, before))
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    os.rename(source, target)
    while (source := os.path.dirname(source)) != root.rstrip(b"/"):
        try:
            os.rmdir(source)
        except OSError:
            break


def _is_free(root: bytes, path: bytes) -> bool:
    """Whether nothing exists at ``path``, and only directories above it."""
    if os.path.lexists(_below(root, path)):
        return False
    while path:
        path = path.rpartition(b"/")[0]
        absolute = _below(root, path)
        if os.path.lexists(absolute):
            return os.path.isdir(absolute) and not os.path.islink(absolute)
    return True


def _merge(source: bytes, target: bytes) -> None:
    if not os.path.lexists(target):
        os.rename(source, target)
        return
    for name in os.listdir(source):
        _merge(_below(source, name), _below(target, name))
    os.rmdir(source)


@contextlib.contextmanager
def _times_kept(root: bytes, path: bytes) -> Iterator[None]:
    """Preserve the times of ``path``, if it exists, and of the innermost existing directory above it."""
    directories = [_below(root, path)]
    while not os.path.isdir(directories[-1]) or len(directories) == 1:
        directories.append(os.path.dirname(directories[-1]))
    times = {directory: os.stat(directory) for directory in directories if os.path.isdir(directory)}
    yield
    for directory, info in times.items():
        os.utime(directory, ns=(info.st_atime_ns, info.st_mtime_ns))


def _below(directory: bytes, path: bytes) -> bytes:
    return os.path.join(directory, path) if path else directory
