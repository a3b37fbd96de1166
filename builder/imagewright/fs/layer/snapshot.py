"""Snapshots of the metadata of a root file system; two of them show what a RUN changed.

Reads directories and inodes, never the content of files. No process can set a ctime, so (inode, ctime, mtime, size,
mode, owner) reveals every change. Entries are packed into one bytes object per directory: half a million files take
some 40 MB, and unchanged directories compare equal in one step.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from imagewright.descent import Descent, Walk, run
from imagewright.fs.paths import check_length
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.root import Rootfs
from imagewright.records import dataclass

# inode, ctime, mtime, size, mode, uid, gid, hash of the xattrs of a directory, device number, length of the name
_RECORD = struct.Struct("=QqqqIIIIQH")


class Record(NamedTuple):
    """Metadata of one entry. ``xattrs`` is a hash, only for directories: those of a file affect its ctime."""

    inode: int
    ctime_ns: int
    mtime_ns: int
    size: int
    mode: int
    uid: int
    gid: int
    xattrs: int
    device: int

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def directory_key(self) -> tuple[int, ...]:
        """The attributes of a directory itself; its times change with every entry that is added or removed."""
        return self.mode, self.uid, self.gid, self.xattrs


@dataclass(slots=True)
class Snapshot:
    """Directories by root-relative path (b"" is the root), each with its packed entries sorted by name."""

    directories: dict[bytes, bytes]
    root: Record

    @staticmethod
    def entries(packed: bytes) -> Iterator[tuple[bytes, Record]]:
        """Names and records of one directory, in the order of names."""
        position = 0
        while position < len(packed):
            *fields, length = _RECORD.unpack_from(packed, position)
            position += _RECORD.size
            yield packed[position : position + length], Record(*fields)
            position += length


def scan(rootfs: Rootfs) -> Snapshot:
    """Take a snapshot, without foreign paths of ``rootfs``.

    Raises:
        FileSystemError: reason ``LimitExceeded`` for a path that is too long for a layer.
    """
    directories: dict[bytes, bytes] = {}
    try:
        with Descent(rootfs.fd) as down:
            run(_scanning(rootfs, down, b"", directories))
        info = rootfs.inodes.fstat(rootfs.fd)
        return Snapshot(directories, _record(info, rootfs.inodes.xattrs(rootfs.fd)))
    except OSError as error:
        raise explain(error, "look for changed files") from error


def _scanning(rootfs: Rootfs, down: Descent, path: bytes, directories: dict[bytes, bytes]) -> Walk[None]:
    check_length(path)
    apart, inodes = rootfs.foreign, rootfs.inodes
    found: list[tuple[bytes, os.stat_result]] = []
    prefix = path + b"/" if path else b""
    with os.scandir(down.fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            if apart and prefix + name in apart:
                continue
            found.append((name, inodes.seen(entry.stat(follow_symlinks=False))))
    found.sort(key=lambda pair: pair[0])
    parts: list[bytes] = []
    pack = _RECORD.pack
    for name, info in found:
        xattrs = 0
        if stat.S_ISDIR(info.st_mode):
            xattrs = _hash(inodes.xattrs(down.enter(name)))
            yield _scanning(rootfs, down, prefix + name, directories)
            down.leave()
        parts.append(
            pack(
                info.st_ino,
                info.st_ctime_ns,
                info.st_mtime_ns,
                info.st_size,
                info.st_mode,
                info.st_uid,
                info.st_gid,
                xattrs,
                info.st_rdev,
                len(name),
            )
        )
        parts.append(name)
    directories[path] = b"".join(parts)


def _record(info: os.stat_result, xattrs: dict[str, bytes]) -> Record:
    return Record(
        info.st_ino,
        info.st_ctime_ns,
        info.st_mtime_ns,
        info.st_size,
        info.st_mode,
        info.st_uid,
        info.st_gid,
        _hash(xattrs),
        info.st_rdev,
    )


def _hash(xattrs: dict[str, bytes]) -> int:
    """32 bits suffice: only two sets of one directory are compared."""
    return zlib.crc32(repr(sorted(xattrs.items())).encode()) if xattrs else 0
