"""Owners, modes, times and extended attributes of single entries.

Reads and changes inodes through descriptors; never follows a link.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from imagewright.fs.rootfs.errors import owner_error

EntryRef = tuple[int, bytes]  # (descriptor of the directory, name in it)

# Attributes of the machine rather than of the image.
_FOREIGN_XATTRS = (
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"trusted.overlay.",
    b"user.overlay.",
    b"system.nfs",
)


@dataclass(frozen=True, slots=True)
class Ownership:
    """Numeric owner and group."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of a copy that differ from its source's; None keeps the source's. ``mode``: permission bits."""

    owner: tuple[int, int] | None = None
    mode: int | None = None


AS_SOURCE = Attributes()


def copy_attributes(source: int, target: int, attributes: Attributes = AS_SOURCE) -> None:
    """Copy owner, mode, xattrs and mtime of one open directory to another; ``attributes`` take precedence."""
    info = os.fstat(source)
    change_owner(target, attributes.owner or (info.st_uid, info.st_gid))
    os.fchmod(target, mode_of(info, attributes))
    for name, value in read_xattrs(source).items():
        write_xattr(target, name, value)
    os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))


def read_xattrs(target: int | bytes) -> dict[str, bytes]:
    """The extended attributes of the image, sorted by name. The last component of a path is not followed."""
    follow = isinstance(target, int)
    try:
        names = os.listxattr(target, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return {}
        raise
    return {
        name: os.getxattr(target, name, follow_symlinks=follow)
        for name in sorted(names)
        if not os.fsencode(name).startswith(_FOREIGN_XATTRS)
    }


def write_xattr(target: int | bytes, name: str | bytes, value: bytes) -> None:
    """Set an extended attribute. The last component of a path is not followed.

    Attributes that the file system or the user namespace does not support are skipped, except file capabilities:
    without them a program that worked before would fail.

    Raises:
        OSError
    """
    try:
        os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
    except OSError as error:
        capability = os.fsencode(name) == b"security.capability"
        if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES) or capability:
            raise


def change_owner(target: int | EntryRef, owner: tuple[int, int]) -> None:
    """Change the owner of an open file, or of an entry of a directory (of a link itself), to (uid, gid).

    Raises:
        FileSystemError: reason ``IdOutOfRange`` if the user namespace does not map the id, or does not permit the
            change.
        OSError
    """
    try:
        if isinstance(target, int):
            os.fchown(target, *owner)
        else:
            os.chown(target[1], *owner, dir_fd=target[0], follow_symlinks=False)
    except OSError as error:
        raise owner_error(error, "a file", owner) from error


def proc_path(ref: EntryRef) -> bytes:
    """A path of an entry of an open directory, for calls without ``dir_fd``."""
    return b"/proc/self/fd/%d/" % ref[0] + ref[1]


def mode_of(info: os.stat_result, attributes: Attributes) -> int:
    return stat.S_IMODE(info.st_mode) if attributes.mode is None else attributes.mode
