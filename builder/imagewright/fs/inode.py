"""Gives what was made on disk all that its tar entry says: data, owner, mode, extended attributes, times.

Writes to the descriptors that it is given. Called by ``fs.unpack``.
"""

from __future__ import annotations

import errno
import os

from imagewright.errors import FileSystemError, Reason
from imagewright.fs import tarheader
from imagewright.fs.tarheader import Entry, TarReader

_PERMISSIONS = 0o7777


def write_data(fd: int, reader: TarReader) -> None:
    """The current entry's data."""
    for piece in reader.chunks():
        written = os.write(fd, piece)
        while written < len(piece):
            written += os.write(fd, piece[written:])


def write_sparse(fd: int, reader: TarReader, entry: Entry) -> None:
    """The data of a sparse file, holes between them."""
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
    """Owner, mode and xattrs of an open file or folder.

    Raises:
        FileSystemError: reason ``IdOutOfRange`` for an owner that can't be given here.
    """
    try:
        os.fchown(fd, *owner)
    except OSError as error:
        raise _id_error(error, entry, owner) from error
    os.fchmod(fd, entry.mode & _PERMISSIONS)  # after the owner: chown drops setuid
    for name, value in entry.xattrs.items():
        _set_xattr(fd, name, value)


def set_special_metadata(place: tuple[int, bytes], entry: Entry, owner: tuple[int, int]) -> None:
    """All of a link, fifo or device, which is not opened: ``place`` is (descriptor of its folder, name)."""
    directory, name = place
    try:
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        raise _id_error(error, entry, owner) from error
    if entry.type != tarheader.SYMLINK:
        os.chmod(name, entry.mode & _PERMISSIONS, dir_fd=directory)  # just made: no link that could be followed
    for key, value in entry.xattrs.items():
        _set_xattr(b"/proc/self/fd/%d/" % directory + name, key, value)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=directory, follow_symlinks=False)


def drop_xattrs(fd: int, entry: Entry) -> None:
    """Remove what a folder had from lower layers and has no more."""
    for name in os.listxattr(fd):
        if name != "security.selinux" and os.fsencode(name) not in entry.xattrs:
            os.removexattr(fd, name)


def show(name: bytes) -> str:
    """A name for messages: absolute, printable, not endless."""
    return "/" + name[:300].decode("utf-8", "backslashreplace").lstrip("/")


def _set_xattr(target: int | bytes, name: bytes, value: bytes) -> None:
    try:
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
    except OSError as error:
        # Labels of the machine an image was made on and file systems without this name space: not the image's loss.
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES) or name == b"security.capability":
            raise


def _id_error(error: OSError, entry: Entry, owner: tuple[int, int]) -> OSError | FileSystemError:
    uid, gid = owner
    if error.errno == errno.EINVAL:
        return FileSystemError(
            f"{show(entry.name)} belongs to {uid}:{gid}, an id that this user namespace doesn't hold",
            reason=Reason.ID_OUT_OF_RANGE,
            hint="Build it in a Pod with host users (profile plain or hardened), or give the files ids below 65536.",
        )
    if error.errno == errno.EPERM:
        return FileSystemError(
            f"{show(entry.name)} belongs to {uid}:{gid}, and this process may not give files away",
            reason=Reason.ID_OUT_OF_RANGE,
            hint="Run as root, or as a user with ranges in /etc/subuid and /etc/subgid and with newuidmap installed.",
        )
    return error
