"""The state of an entry before a step overwrites it, to tell whether the step changed it.

Reads files through descriptors of their directories. As in BuildKit, overwriting a file with its equal is not a change,
and such a file is not part of the layer.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping

from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.inodes import Inodes
from imagewright.records import dataclass

_CHUNK_BYTES = 1 << 20


def clamped(mtime_ns: int, limit_ns: int | None) -> int:
    """A modification time as layers have it: none is later than the limit, if there is one (SOURCE_DATE_EPOCH)."""
    return mtime_ns if limit_ns is None else min(mtime_ns, limit_ns)


@dataclass(frozen=True, slots=True)
class Description:
    """What tells entries apart, but for the data of regular files. ``names``: hard links; ``link``: a link's target."""

    mode: int  # with the type
    owner: tuple[int, int]
    rdev: int
    size: int
    mtime_ns: int
    names: int
    link: bytes
    xattrs: Mapping[str, bytes] | Mapping[bytes, bytes]

    def equals(self, other: Description, limit_ns: int | None) -> bool:
        """Whether a layer would have the same for both, data aside; times are compared as layers have them.

        So it doesn't matter whether a step wrote a file, or its cached layer was unpacked. The mtime of a directory is
        ignored, since it changes with the content. Always False for a file with several hard links.
        """
        if self._always != other._always:
            return False
        if stat.S_ISDIR(self.mode):
            return True
        if self.names > 1 or other.names > 1 or self.link != other.link:
            return False
        if stat.S_ISREG(self.mode) and self.size != other.size:
            return False
        return clamped(self.mtime_ns, limit_ns) == clamped(other.mtime_ns, limit_ns)

    @property
    def _always(self) -> tuple[object, ...]:
        return self.mode, self.owner, self.rdev, self.xattrs


class EntryState:
    """An entry that is about to be overwritten; its content stays readable until ``close``."""

    def __init__(self, ref: EntryRef, inodes: Inodes) -> None:
        """
        Raises:
            OSError: nothing exists there.
        """
        self._inodes = inodes
        self._before = _described(ref, inodes)
        self._file = _open(ref) if stat.S_ISREG(self._before.mode) else -1

    def equals(self, ref: EntryRef, limit_ns: int | None) -> bool:
        """Whether the entry is still the same, as ``Description.equals``, with its data."""
        try:
            now = _described(ref, self._inodes)
        except FileNotFoundError:
            return False
        if not self._before.equals(now, limit_ns):
            return False
        return not stat.S_ISREG(now.mode) or self._holds(ref)

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


def _described(ref: EntryRef, inodes: Inodes) -> Description:
    info = inodes.stat(ref)
    return Description(
        info.st_mode,
        (info.st_uid, info.st_gid),
        info.st_rdev,
        info.st_size,
        info.st_mtime_ns,
        info.st_nlink,
        os.readlink(ref[1], dir_fd=ref[0]) if stat.S_ISLNK(info.st_mode) else b"",
        inodes.xattrs(ref),
    )


def _open(ref: EntryRef) -> int:
    return os.open(ref[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=ref[0])
