"""The state of an entry before a step overwrites it, to tell whether the step changed it.

Reads files through descriptors of their directories. As in BuildKit, overwriting a file with its equal is not a change,
and such a file is not part of the layer.
"""

from __future__ import annotations

import os
import stat

from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.inodes import Inodes

_CHUNK_BYTES = 1 << 20


class EntryState:
    """An entry that is about to be overwritten; its content stays readable until ``close``."""

    def __init__(self, ref: EntryRef, inodes: Inodes) -> None:
        """
        Raises:
            OSError: nothing exists there.
        """
        self._inodes = inodes
        self._info = inodes.stat(ref)
        self._xattrs = inodes.xattrs(ref)
        self._target = os.readlink(ref[1], dir_fd=ref[0]) if stat.S_ISLNK(self._info.st_mode) else b""
        self._file = _open(ref) if stat.S_ISREG(self._info.st_mode) else -1

    def equals(self, ref: EntryRef) -> bool:
        """Whether the entry is still the same. For a directory mtime is ignored, since it changes with the content.

        Always False for a file with several hard links.
        """
        try:
            info = self._inodes.stat(ref)
        except FileNotFoundError:
            return False
        if _metadata(info) != _metadata(self._info) or self._inodes.xattrs(ref) != self._xattrs:
            return False
        if stat.S_ISDIR(info.st_mode):
            return True
        if info.st_nlink > 1 or self._info.st_nlink > 1:
            return False
        if stat.S_ISLNK(info.st_mode):
            return os.readlink(ref[1], dir_fd=ref[0]) == self._target
        return not stat.S_ISREG(info.st_mode) or self._holds(ref)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> EntryState:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _holds(self, ref: EntryRef) -> bool:
        new = _open(ref)
        try:
            offset = 0
            while data := os.pread(self._file, _CHUNK_BYTES, offset):
                if os.pread(new, len(data), offset) != data:
                    return False
                offset += len(data)
        finally:
            os.close(new)
        return True


def _metadata(info: os.stat_result) -> tuple[int, ...]:
    size = info.st_size if stat.S_ISREG(info.st_mode) else 0
    mtime_ns = 0 if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns
    return info.st_mode, info.st_uid, info.st_gid, info.st_rdev, mtime_ns, size


def _open(ref: EntryRef) -> int:
    return os.open(ref[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=ref[0])
