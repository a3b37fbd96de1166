"""Restores the data, owner, mode, extended attributes and times of a tar entry to a file on disk.

Writes to the descriptors it is given.
"""

from __future__ import annotations

import os

from imagewright.fs.paths import quote_entry
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.inodes import Inodes
from imagewright.fs.tar.entries import SYMLINK, Entry
from imagewright.fs.targets.model import DataReader

_PERMISSIONS = 0o7777


def write_entry_data(fd: int, reader: DataReader, entry: Entry) -> None:
    """Write the data of the current entry, ``entry``, a regular file."""
    if entry.segments is None:
        _write_dense(fd, reader)
    else:
        _write_sparse(fd, reader, entry)


def _write_dense(fd: int, reader: DataReader) -> None:
    """Write the data of an entry that is not sparse."""
    whole = reader.buffered()
    if whole is None:
        for piece in reader.chunks():
            _write(fd, piece)
    elif whole:
        _write(fd, whole)


def _write(fd: int, data: bytes | memoryview) -> None:
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def _write_sparse(fd: int, reader: DataReader, entry: Entry) -> None:
    """Write the data of a sparse file, with holes between."""
    segments = iter(entry.segments or ())
    offset = left = 0
    for chunk in reader.chunks():
        piece = memoryview(chunk)
        while piece:
            if not left:
                offset, left = next(segments)
            part = piece[:left]
            written = os.pwrite(fd, part, offset)
            piece = piece[written:]
            offset += written
            left -= written
    os.ftruncate(fd, entry.real_size)


def set_metadata(inodes: Inodes, target: int | EntryRef, entry: Entry, owner: tuple[int, int]) -> None:
    """Set owner, mode and xattrs of an open file or directory, or of a link, fifo or device without opening it.

    Raises:
        FileSystemError: reason ``IdOutOfRange`` for an owner that cannot be set here.
    """
    inodes.change_owner(target, owner, quote_entry(entry.name))
    if entry.type != SYMLINK:
        inodes.change_mode(target, entry.mode & _PERMISSIONS)
    for name, value in entry.xattrs.items():
        inodes.set_xattr(target, os.fsdecode(name), value)


def set_special_metadata(inodes: Inodes, ref: EntryRef, entry: Entry, owner: tuple[int, int]) -> None:
    """Set all metadata of a link, fifo or device, just created, without opening it."""
    set_metadata(inodes, ref, entry, owner)
    os.utime(ref[1], ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=ref[0], follow_symlinks=False)


def drop_xattrs(inodes: Inodes, fd: int, entry: Entry) -> None:
    """Remove the xattrs that a directory has from lower layers but not in this entry."""
    for name in inodes.xattrs(fd):  # not those of the machine
        if os.fsencode(name) not in entry.xattrs:
            inodes.remove_xattr(fd, name)
