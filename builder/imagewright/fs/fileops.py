"""Copies single entries between folders that are given by descriptor, with everything that a layer can hold.

Reads and writes files; never follows a link. Called by ``fs.tree`` and ``fs.copy``.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

Place = tuple[int, bytes]  # (descriptor of the folder, name in it)

_COPY_BYTES = 1 << 30
_FALLBACK_BYTES = 1 << 20
# What belongs to the machine rather than to the image.
_FOREIGN_XATTRS = (
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"trusted.overlay.",
    b"user.overlay.",
    b"system.nfs",
)


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a copy gets instead of the source's: None keeps. ``mode`` is of the permission bits."""

    owner: tuple[int, int] | None = None
    mode: int | None = None


class FileCopier:
    """Copies entries other than folders; files that were one by hard links become one again."""

    def __init__(self) -> None:
        self._seen: dict[tuple[int, int], Place] = {}
        self._dup: dict[int, int] = {}
        self._can_clone = True

    def copy_entry(
        self,
        source: Place,
        target: Place,
        info: os.stat_result,
        attributes: Attributes = Attributes(),
    ) -> None:
        """Copy one entry; the target must not exist. Sockets are left out, as no layer can hold them.

        Raises:
            OSError
        """
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFREG:
            if info.st_nlink > 1 and self._link(target, info):
                return
            self._copy_file(source, target, info, attributes)
            return
        if kind == stat.S_IFLNK:
            os.symlink(os.readlink(source[1], dir_fd=source[0]), target[1], dir_fd=target[0])
        elif kind == stat.S_IFIFO:
            os.mkfifo(target[1], 0o600, dir_fd=target[0])
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            os.mknod(target[1], kind | 0o600, info.st_rdev, dir_fd=target[0])
        else:
            return
        uid, gid = attributes.owner or (info.st_uid, info.st_gid)
        os.chown(target[1], uid, gid, dir_fd=target[0], follow_symlinks=False)
        if kind != stat.S_IFLNK:
            os.chmod(target[1], _mode(info, attributes), dir_fd=target[0])
        for name, value in read_xattrs(proc_path(source)).items():
            os.setxattr(proc_path(target), name, value, follow_symlinks=False)
        os.utime(target[1], ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=target[0], follow_symlinks=False)

    def close(self) -> None:
        """Close the folders that were kept for hard links."""
        for fd in self._dup.values():
            os.close(fd)
        self._dup.clear()
        self._seen.clear()

    def _link(self, target: Place, info: os.stat_result) -> bool:
        key = (info.st_dev, info.st_ino)
        first = self._seen.get(key)
        if first is None:
            # The folder's descriptor is the caller's and may be closed: keep one of our own, one per folder.
            folder = os.fstat(target[0]).st_ino
            if folder not in self._dup:
                if len(self._dup) > 200:
                    return False  # bounded: a hard link becomes a copy then, in a tree made to make us run out
                self._dup[folder] = os.dup(target[0])
            self._seen[key] = (self._dup[folder], target[1])
            return False
        os.link(first[1], target[1], src_dir_fd=first[0], dst_dir_fd=target[0], follow_symlinks=False)
        return True

    def _copy_file(self, source: Place, target: Place, info: os.stat_result, attributes: Attributes) -> None:
        read = os.open(source[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source[0])
        try:
            write = os.open(
                target[1], os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=target[0]
            )
            try:
                if info.st_size:
                    self._copy_data(read, write, info)
                uid, gid = attributes.owner or (info.st_uid, info.st_gid)
                os.fchown(write, uid, gid)
                os.fchmod(write, _mode(info, attributes))  # after the owner: chown drops setuid
                for name, value in read_xattrs(read).items():
                    os.setxattr(write, name, value)
                os.utime(write, ns=(info.st_mtime_ns, info.st_mtime_ns))
            finally:
                os.close(write)
        finally:
            os.close(read)

    def _copy_data(self, read: int, write: int, info: os.stat_result) -> None:
        if info.st_blocks * 512 < info.st_size:
            _copy_sparse(read, write, info.st_size)
            return
        while self._can_clone:
            try:
                if not os.copy_file_range(read, write, _COPY_BYTES):
                    return
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                self._can_clone = False
        while os.sendfile(write, read, None, _COPY_BYTES):
            pass


def _copy_sparse(read: int, write: int, size: int) -> None:
    """Copy the data between holes; a file system that knows no holes reports one piece."""
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(read, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # nothing but a hole up to the end
        end = os.lseek(read, begin, os.SEEK_HOLE)
        while begin < end:
            data = os.pread(read, min(_FALLBACK_BYTES, end - begin), begin)
            if not data:
                break
            begin += os.pwrite(write, data, begin)
        offset = end
    os.ftruncate(write, size)


def copy_attributes(source: int, target: int) -> None:
    """Give one open folder the owner, mode, xattrs and time of another."""
    info = os.fstat(source)
    os.fchown(target, info.st_uid, info.st_gid)
    os.fchmod(target, stat.S_IMODE(info.st_mode))
    for name, value in read_xattrs(source).items():
        os.setxattr(target, name, value)
    os.utime(target, ns=(info.st_mtime_ns, info.st_mtime_ns))


def read_xattrs(target: int | bytes) -> dict[str, bytes]:
    """The extended attributes that belong to an image, sorted by name. A path's last component is not followed."""
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


def proc_path(place: Place) -> bytes:
    """A path of an entry in an open folder, for calls that take no ``dir_fd``."""
    return b"/proc/self/fd/%d/" % place[0] + place[1]


def _mode(info: os.stat_result, attributes: Attributes) -> int:
    return stat.S_IMODE(info.st_mode) if attributes.mode is None else attributes.mode
