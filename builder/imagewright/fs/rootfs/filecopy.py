"""Copies single entries of open directories, with all attributes that a layer can hold, and creates directories.

Reads and writes files; never follows a link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from imagewright.fs.rootfs.attributes import AS_SOURCE, Attributes, EntryRef
from imagewright.fs.rootfs.root import OPEN_DIRECTORY, Rootfs

_FALLBACK_BYTES = 1 << 20
OpenDirectory = tuple[Rootfs, int]  # (its root file system, descriptor)


class FileCopier:
    """Copies entries other than directories; hard links among them are preserved.

    Args:
        source: the root file system to read.
        target: the root file system to write to.
    """

    def __init__(self, source: Rootfs, target: Rootfs) -> None:
        self._target = target
        self._read, self._write = source.inodes, target.inodes
        # Where the first of several hard links was copied to (directory and name), by the source's device and inode.
        # Paths rather than descriptors, since a tree may have hard links in any number of directories.
        self._seen: dict[tuple[int, int], tuple[bytes, bytes]] = {}
        self._origins: dict[tuple[int, int], tuple[int, int]] = {}  # by device and inode in the target
        self._can_clone = True

    def copy_entry(
        self,
        source: EntryRef,
        target: EntryRef,
        info: os.stat_result,
        attributes: Attributes = AS_SOURCE,
    ) -> None:
        """Copy one entry; the target must not exist. Sockets are skipped, since layers cannot hold them.

        Raises:
            OSError
        """
        kind = stat.S_IFMT(info.st_mode)
        if kind == stat.S_IFSOCK or (info.st_nlink > 1 and self._link(target, info)):
            return
        if kind == stat.S_IFREG:
            self._copy_file(source, target, info, attributes)
        else:
            self._copy_special(source, target, info, attributes)
        if info.st_nlink > 1:
            key = (info.st_dev, info.st_ino)
            self._seen[key] = (self._target.path_of(target[0]), target[1])
            self._origins[_inode(target)] = key

    def remove(self, target: EntryRef) -> None:
        """Unlink an entry that a copy will replace; if it was copied earlier, nothing is linked to it from now on.

        Raises:
            OSError: IsADirectoryError or PermissionError for a directory.
        """
        if self._origins and (key := self._origins.pop(_inode(target), None)) is not None:
            del self._seen[key]
        os.unlink(target[1], dir_fd=target[0])

    def _copy_special(self, source: EntryRef, target: EntryRef, info: os.stat_result, attributes: Attributes) -> None:
        kind, write = stat.S_IFMT(info.st_mode), self._write
        if kind == stat.S_IFLNK:
            write.create_link(target, os.readlink(source[1], dir_fd=source[0]))
        elif kind == stat.S_IFIFO:
            write.create_fifo(target)
        else:
            write.create_device(target, kind, info.st_rdev)
        write.change_owner(target, attributes.owner_of(info))
        if kind != stat.S_IFLNK:
            write.change_mode(target, attributes.mode_of(info))
        for name, value in self._read.xattrs(source).items():
            write.set_xattr(target, name, value)
        os.utime(target[1], ns=(info.st_mtime_ns, info.st_mtime_ns), dir_fd=target[0], follow_symlinks=False)

    def _link(self, target: EntryRef, info: os.stat_result) -> bool:
        """Link to an earlier copy of the same inode; False if there is none."""
        first = self._seen.get((info.st_dev, info.st_ino))
        if first is None:
            return False
        directory, name = first
        with self._target.directory(directory) as fd:
            parent_fd = self._target.parent_fd(fd, directory + b"/" + name if directory else name)
            try:
                os.link(name, target[1], src_dir_fd=parent_fd, dst_dir_fd=target[0], follow_symlinks=False)
            except OSError as error:
                if error.errno == errno.EXDEV:  # one of the two is at a masked path, on another file system
                    return False
                raise
        return True

    def _copy_file(self, source: EntryRef, target: EntryRef, info: os.stat_result, attributes: Attributes) -> None:
        read = os.open(source[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source[0])
        try:
            write = self._write.create_file(target)
            try:
                if info.st_size:
                    self._copy_data(read, write, info)
                self._write.change_owner(write, attributes.owner_of(info))
                self._write.change_mode(write, attributes.mode_of(info))
                for name, value in self._read.xattrs(read).items():
                    self._write.set_xattr(write, name, value)
                os.utime(write, ns=(info.st_mtime_ns, info.st_mtime_ns))
            finally:
                os.close(write)
        finally:
            os.close(read)

    def _copy_data(self, read: int, write: int, info: os.stat_result) -> None:
        if info.st_blocks * 512 < info.st_size:
            _copy_sparse(read, write, info.st_size)
            return
        left = info.st_size
        while left > 0 and self._can_clone:
            try:
                copied = os.copy_file_range(read, write, left)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                    raise
                self._can_clone = False
            else:
                if not copied:
                    break
                left -= copied
        while left > 0 and (copied := os.sendfile(write, read, None, left)):
            left -= copied


def _copy_sparse(read: int, write: int, size: int) -> None:
    """Copy the data between holes; a file system without support for holes reports a single segment."""
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(read, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # only a hole remains
        end = os.lseek(read, begin, os.SEEK_HOLE)
        while begin < end:
            data = os.pread(read, min(_FALLBACK_BYTES, end - begin), begin)
            if not data:
                break
            begin += os.pwrite(write, data, begin)
        offset = end
    os.ftruncate(write, size)


def copy_attributes(source: OpenDirectory, target: OpenDirectory, attributes: Attributes = AS_SOURCE) -> None:
    """Copy owner, mode, xattrs and mtime of one open directory to another; ``attributes`` take precedence."""
    read, write = source[0].inodes, target[0].inodes
    info = read.fstat(source[1])
    write.change_owner(target[1], attributes.owner_of(info))
    write.change_mode(target[1], attributes.mode_of(info))
    for name, value in read.xattrs(source[1]).items():
        write.set_xattr(target[1], name, value)
    os.utime(target[1], ns=(info.st_mtime_ns, info.st_mtime_ns))


@contextmanager
def open_directory(directory: int, name: bytes) -> Iterator[int]:
    """A descriptor of the directory ``name`` in an open directory.

    Raises:
        OSError: also if it is a link.
    """
    fd = os.open(name, OPEN_DIRECTORY, dir_fd=directory)
    try:
        yield fd
    finally:
        os.close(fd)


def make_directory(rootfs: Rootfs, directory: int, path: bytes, owner: tuple[int, int], mode: int = 0o755) -> None:
    """Create the directory ``path``, which contains no links, in its open parent, regardless of the umask.

    Raises:
        FileSystemError: as ``Inodes.change_owner``.
        OSError: FileExistsError among others.
    """
    rootfs.mkdir(directory, path)
    with open_directory(rootfs.parent_fd(directory, path), path.rpartition(b"/")[2]) as fd:
        rootfs.inodes.change_owner(fd, owner)
        rootfs.inodes.change_mode(fd, mode)


def _inode(ref: EntryRef) -> tuple[int, int]:
    info = os.stat(ref[1], dir_fd=ref[0], follow_symlinks=False)
    return info.st_dev, info.st_ino
