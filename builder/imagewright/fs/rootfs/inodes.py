"""Inodes of a root file system: created, described and changed, with owner, mode, device number and extended
attributes.

Creates and changes inodes through descriptors; never follows a link. ``Inodes`` has everything on the disk.
``RecordedInodes`` is for an ordinary user, who may not give files away: what the disk cannot hold is recorded.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import field
from typing import Any, Final, cast

from imagewright.fs.rootfs.attributes import EntryRef, proc_path
from imagewright.fs.rootfs.errors import owner_error
from imagewright.records import dataclass

# Attributes of the machine rather than of the image.
FOREIGN_XATTRS = (
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"trusted.overlay.",
    b"user.overlay.",
    b"system.nfs",
)
_CAPABILITY = "security.capability"
_ACL = "system.posix_acl_access"
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Inodes:
    """Inodes as the disk has them. An entry is an open file, or (descriptor of its directory, name)."""

    def seen(self, info: os.stat_result) -> os.stat_result:
        """The attributes that the image has where the disk has ``info``."""
        return info

    def stat(self, ref: EntryRef) -> os.stat_result:
        """lstat(2) of an entry."""
        return self.seen(os.stat(ref[1], dir_fd=ref[0], follow_symlinks=False))

    def fstat(self, fd: int) -> os.stat_result:
        """fstat(2) of an open file."""
        return self.seen(os.fstat(fd))

    def xattrs(self, target: int | EntryRef) -> dict[str, bytes]:
        """The extended attributes of the image, sorted by name."""
        path, follow = _path(target)
        try:
            names = os.listxattr(path, follow_symlinks=follow)
        except OSError as error:
            if error.errno in (errno.ENOTSUP, errno.EPERM):
                return {}
            raise
        return {
            name: os.getxattr(path, name, follow_symlinks=follow)
            for name in sorted(names)
            if not os.fsencode(name).startswith(FOREIGN_XATTRS)
        }

    def default_owner(self) -> tuple[int, int]:
        """The owner (uid, gid) of what is created here until it is changed."""
        return os.geteuid(), os.getegid()

    # --- creating: owner and mode are set afterwards

    def create_file(self, ref: EntryRef) -> int:
        """Create a regular file; its descriptor, open for writing."""
        return os.open(ref[1], _CREATE, 0o600, dir_fd=ref[0])

    def create_directory(self, ref: EntryRef) -> None:
        """Create a directory with mode 0700."""
        os.mkdir(ref[1], 0o700, dir_fd=ref[0])

    def create_link(self, ref: EntryRef, target: bytes) -> None:
        """Create a symbolic link."""
        os.symlink(target, ref[1], dir_fd=ref[0])

    def create_fifo(self, ref: EntryRef) -> None:
        """Create a named pipe."""
        os.mkfifo(ref[1], 0o600, dir_fd=ref[0])

    def create_device(self, ref: EntryRef, kind: int, number: int) -> None:
        """Create a device of the kind S_IFCHR or S_IFBLK.

        Raises:
            OSError: PermissionError in a user namespace.
        """
        os.mknod(ref[1], kind | 0o600, number, dir_fd=ref[0])

    # --- changing

    def change_owner(self, target: int | EntryRef, owner: tuple[int, int], what: str = "a file") -> None:
        """Change the owner to (uid, gid); of a link, its own. ``what`` names the entry in errors.

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
            raise owner_error(error, what, owner) from error

    def change_mode(self, target: int | EntryRef, mode: int) -> None:
        """Change the permission bits, after the owner: chown(2) drops setuid.

        Not for a link, which would be followed.
        """
        if isinstance(target, int):
            os.fchmod(target, mode)
        else:
            os.chmod(target[1], mode, dir_fd=target[0])

    def set_xattr(self, target: int | EntryRef, name: str, value: bytes) -> None:
        """Set an extended attribute.

        Attributes that the file system or the user namespace does not support are skipped, except file capabilities:
        without them a program that worked before would fail.

        Raises:
            OSError
        """
        path, follow = _path(target)
        try:
            os.setxattr(path, name, value, follow_symlinks=follow)
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EPERM, errno.EACCES) or name == _CAPABILITY:
                raise

    def remove_xattr(self, target: int | EntryRef, name: str) -> None:
        """Remove an extended attribute."""
        path, follow = _path(target)
        os.removexattr(path, name, follow_symlinks=follow)


ON_DISK: Final = Inodes()


@dataclass(slots=True)
class _Record:
    """``mode`` includes the type; it is None where the disk has the image's. ``device``: the number of a device."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None
    device: int = 0
    xattrs: dict[str, bytes] = field(default_factory=dict)

    @property
    def is_device(self) -> bool:
        return self.mode is not None and (stat.S_ISCHR(self.mode) or stat.S_ISBLK(self.mode))


_NOTHING = _Record()


class RecordedInodes(Inodes):
    """Inodes of an ordinary user, who sees the image's owners, modes and devices nevertheless.

    On the disk everything belongs to this user, who can read and write it, and a device is an empty file. What an inode
    without a record has is the disk's, except that it belongs to root. One object serves all root file systems of a
    build, so that inodes may be moved between them. Whatever is created here loses the record of an earlier inode with
    its number.
    """

    def __init__(self) -> None:
        self._records: dict[tuple[int, int], _Record] = {}

    def seen(self, info: os.stat_result) -> os.stat_result:
        record = self._records.get((info.st_dev, info.st_ino), _NOTHING)
        _, (fields, others) = cast(Any, info.__reduce__())  # what its constructor takes
        mode = info.st_mode if record.mode is None else record.mode
        if record.is_device:
            others = {**others, "st_rdev": record.device}
        return os.stat_result((mode, *fields[1:4], record.uid, record.gid, *fields[6:]), others)

    def xattrs(self, target: int | EntryRef) -> dict[str, bytes]:
        found = super().xattrs(target)
        recorded = self._records.get(_number(target), _NOTHING).xattrs
        return dict(sorted((found | recorded).items())) if recorded else found

    def default_owner(self) -> tuple[int, int]:
        return 0, 0

    def create_file(self, ref: EntryRef) -> int:
        fd = super().create_file(ref)
        self._records.pop(_number(fd), None)
        return fd

    def create_directory(self, ref: EntryRef) -> None:
        super().create_directory(ref)
        self._records.pop(_number(ref), None)

    def create_link(self, ref: EntryRef, target: bytes) -> None:
        super().create_link(ref, target)
        self._records.pop(_number(ref), None)

    def create_fifo(self, ref: EntryRef) -> None:
        super().create_fifo(ref)
        self._records.pop(_number(ref), None)

    def create_device(self, ref: EntryRef, kind: int, number: int) -> None:
        fd = super().create_file(ref)
        self._records[_number(fd)] = _Record(mode=kind | 0o600, device=number)
        os.close(fd)

    def change_owner(self, target: int | EntryRef, owner: tuple[int, int], what: str = "a file") -> None:
        number = _number(target)
        if number in self._records or owner != (0, 0):
            record = self._record(number)
            record.uid, record.gid = owner

    def change_mode(self, target: int | EntryRef, mode: int) -> None:
        info = _stat(target)
        record = self._record((info.st_dev, info.st_ino))
        if record.is_device:
            record.mode = stat.S_IFMT(record.mode or 0) | mode
            return
        on_disk = mode & 0o777 | (0o700 if stat.S_ISDIR(info.st_mode) else 0o600)
        super().change_mode(target, on_disk)
        record.mode = stat.S_IFMT(info.st_mode) | mode if mode != on_disk else None
        if record == _NOTHING:
            del self._records[info.st_dev, info.st_ino]

    def set_xattr(self, target: int | EntryRef, name: str, value: bytes) -> None:
        if name == _CAPABILITY:
            self._record(_number(target)).xattrs[name] = value
            return
        super().set_xattr(target, name, value)
        if name == _ACL:
            self._follow_acl(target)

    def remove_xattr(self, target: int | EntryRef, name: str) -> None:
        self._records.get(_number(target), _NOTHING).xattrs.pop(name, None)
        if name != _CAPABILITY:
            super().remove_xattr(target, name)

    def _record(self, number: tuple[int, int]) -> _Record:
        return self._records.setdefault(number, _Record())

    def _follow_acl(self, target: int | EntryRef) -> None:
        """The kernel has changed the permission bits to those of the ACL, which may deny them to the owner, too."""
        info = _stat(target)
        number = info.st_dev, info.st_ino
        self._records.get(number, _NOTHING).xattrs.pop(_ACL, None)
        acl = super().xattrs(target).get(_ACL)
        self.change_mode(target, self.seen(info).st_mode & 0o7000 | info.st_mode & 0o777)
        if acl is not None and super().xattrs(target).get(_ACL) != acl:  # chmod(2) has changed it
            self._record(number).xattrs[_ACL] = acl


def choose_inodes() -> Inodes:
    """On the disk for root, also of a user namespace; recorded for an ordinary user."""
    return ON_DISK if os.geteuid() == 0 else RecordedInodes()


def _path(target: int | EntryRef) -> tuple[int | bytes, bool]:
    """A target for the calls of extended attributes, and whether they may follow a link there."""
    return (target, True) if isinstance(target, int) else (proc_path(target), False)


def _stat(target: int | EntryRef) -> os.stat_result:
    if isinstance(target, int):
        return os.fstat(target)
    return os.stat(target[1], dir_fd=target[0], follow_symlinks=False)


def _number(target: int | EntryRef) -> tuple[int, int]:
    info = _stat(target)
    return info.st_dev, info.st_ino
