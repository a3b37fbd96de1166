"""Restores the data, owner, mode, extended attributes and times of a tar entry to a file on disk.

Writes to the descriptors it is given.
"""

from __future__ import annotations

import os

from imagewright.fs.paths import quote_entry
from imagewright.fs.rootfs.attributes import proc_path, read_xattrs, write_xattr
from imagewright.fs.rootfs.errors import owner_error
from imagewright.fs.tar.entries import SYMLINK, Entry
from imagewright.fs.tar.reader import TarReader

_PERMISSIONS = 0o7777


def write_data(fd: int, reader: TarReader) -> None:
    """Write the data of the current entry."""
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


def write_sparse(fd: int, reader: TarReader, entry: Entry) -> None:
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


def set_metadata(fd: int, entry: Entry, owner: tuple[int, int]) -> None:
    """Set owner, mode and xattrs of an open file or directory.

    Raises:
        FileSystemError: reason ``IdOutOfRange`` for an owner that cannot be set here.
    """
    try:
        os.fchown(fd, *owner)
    except OSError as error:
        raise owner_error(error, quote_entry(entry.name), owner) from error
    os.fchmod(fd, entry.mode & _PERMISSIONS)  # after the owner: chown drops setuid
    for name, value in entry.xattrs.items():
        write_xattr(fd, name, value)


def set_special_metadata(ref: tuple[int, bytes], entry: Entry, owner: tuple[int, int]) -> None:
    """Set all metadata of a link, fifo or device without opening it."""
    directory, name = ref
    try:
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        raise owner_error(error, quote_entry(entry.name), owner) from error
    if entry.type != SYMLINK:
        os.chmod(
            name, entry.mode & _PERMISSIONS, dir_fd=directory
        )  # just created, so not a link that could be followed
    for key, value in entry.xattrs.items():
        write_xattr(proc_path(ref), key, value)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)


def drop_xattrs(fd: int, entry: Entry) -> None:
    """Remove the xattrs that a directory has from lower layers but not in this entry."""
    for name in read_xattrs(fd):  # not those of the machine
        if os.fsencode(name) not in entry.xattrs:
            os.removexattr(fd, name)
