"""A root file system on disk as a target: entries are created, changed and removed through their open directories.

Reads and writes below the root it is given, never outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from imagewright.descent import Descent
from imagewright.errors import FileSystemError
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.attributes import Attributes, EntryRef
from imagewright.fs.rootfs.directorycache import DirectoryCache, link_target
from imagewright.fs.rootfs.entrystate import EntryState
from imagewright.fs.rootfs.filecopy import FileCopier, OpenDirectory, copy_attributes, make_directory
from imagewright.fs.rootfs.holes import Holes
from imagewright.fs.rootfs.root import OPEN_DIRECTORY, Rootfs
from imagewright.fs.rootfs.tree import remove_entry
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import Entry
from imagewright.fs.targets.model import DataReader, Owner, Packable, SourceEntry, Target
from imagewright.fs.targets.restore import (
    drop_xattrs,
    set_metadata,
    set_special_metadata,
    write_entry_data,
)


class DiskTarget(Target[int]):
    """Directories are descriptors; they stay open until 64 others have been requested."""

    def __init__(self, rootfs: Rootfs, mtime_limit_ns: int | None = None) -> None:
        self.limit_ns = mtime_limit_ns
        self.full_hint = rootfs.full_hint
        self._rootfs = rootfs
        self._inodes = rootfs.inodes
        self._directories = DirectoryCache(rootfs)
        self._holes = Holes()

    # --- paths

    def is_excluded(self, path: bytes) -> bool:
        return bool(self._rootfs.excluded) and self._rootfs.is_excluded(path)

    def find(self, path: bytes) -> int | None:
        return self._directories.find(path)

    def path_of(self, directory: int) -> bytes:
        return self._rootfs.path_of(directory)

    def real_path(self, path: bytes, name: bytes) -> bytes:
        return self._directories.real_path(path, name)

    def opened(self, path: bytes, above: int, real_path: bytes) -> int:
        return self._directories.keep(
            path, os.open(_name(real_path), OPEN_DIRECTORY, dir_fd=self._in(above, real_path))
        )

    def below(self, path: bytes, spool: Rootfs | None) -> DiskTarget:
        return DiskTarget(self._rootfs.below(path), self.limit_ns)

    def invalidate(self) -> None:
        self._directories.invalidate()

    def close(self) -> None:
        self._directories.close()

    def _in(self, directory: int, path: bytes) -> int:
        """The open directory that contains the entry: a different one if its path is masked."""
        return self._rootfs.parent_fd(directory, path)

    def _ref(self, directory: int, path: bytes) -> EntryRef:
        return self._in(directory, path), _name(path)

    # --- questions

    def names(self, directory: int, path: bytes) -> list[bytes]:
        return self._rootfs.names(directory, path)

    def stat(self, directory: int, path: bytes) -> tuple[int, Owner]:
        info = self._inodes.stat(self._ref(directory, path))
        return info.st_mode, (info.st_uid, info.st_gid)

    def link_target(self, directory: int, path: bytes) -> bytes | None:
        return link_target(*self._ref(directory, path))

    def is_one(self, one: tuple[int, bytes], other: tuple[int, bytes]) -> bool:
        refs = [self._ref(*each) for each in (one, other)]
        try:
            return os.path.samestat(*(os.stat(name, dir_fd=fd, follow_symlinks=False) for fd, name in refs))
        except FileNotFoundError:
            return False

    def state(self, directory: int, path: bytes) -> _DiskState:
        return _DiskState(self, EntryState(self._ref(directory, path), self._inodes))

    def owner_of(self, directory: int) -> Owner:
        info = self._inodes.fstat(directory)
        return info.st_uid, info.st_gid

    def way(self, directory: int) -> _DiskWay:
        return _DiskWay(self, Descent(directory))

    # --- writing

    def mkdir(self, directory: int, path: bytes) -> None:
        self._rootfs.mkdir(directory, path)

    def make_directory(self, directory: int, path: bytes, owner: Owner, mode: int) -> None:
        make_directory(self._rootfs, directory, path, owner, mode)

    def remove(self, directory: int, path: bytes) -> None:
        name, parent = _name(path), self._in(directory, path)
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        remove_entry(directory, path, self._rootfs)
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._directories.invalidate()

    def set_mtime(self, directory: int, mtime_ns: int) -> None:
        os.utime(directory, ns=(mtime_ns, mtime_ns))

    def copy_attributes(self, source: OpenDirectory, directory: int, attributes: Attributes) -> None:
        copy_attributes(source, (self._rootfs, directory), attributes)

    def copier(self, source: Rootfs) -> _DiskCopier:
        return _DiskCopier(self, FileCopier(source, self._rootfs))

    def relocate_mounts(self, path: bytes, link: bytes) -> None:
        if self._rootfs.relocate_mounts(path, link):
            self._directories.invalidate()

    # --- entries of archives

    def put(self, directory: int, path: bytes, entry: Entry, reader: DataReader, owner: Owner) -> bool:
        inodes = self._inodes
        match entry.type:
            case entries.REGULAR:
                self._put_file(self._ref(directory, path), entry, reader, owner)
                return True
            case entries.SYMLINK:
                self.relocate_mounts(path, entry.linkname)
                inodes.create_link(self._ref(directory, path), entry.linkname)
            case entries.FIFO:
                inodes.create_fifo(self._ref(directory, path))
            case _:
                kind = stat.S_IFCHR if entry.type == entries.CHARACTER else stat.S_IFBLK
                try:
                    inodes.create_device(self._ref(directory, path), kind, os.makedev(entry.major, entry.minor))
                except PermissionError:
                    # Devices cannot be created in a user namespace, and containers have their own /dev. The layer
                    # itself is unchanged: the image has the device, only a RUN of this build cannot see it.
                    return False
        set_special_metadata(inodes, self._ref(directory, path), entry, owner)
        return True

    def _put_file(self, ref: EntryRef, entry: Entry, reader: DataReader, owner: Owner) -> None:
        fd = self._inodes.create_file(ref)
        try:
            write_entry_data(fd, reader, entry)
            self._describe_file(fd, entry, owner)
        finally:
            os.close(fd)

    def _describe_file(self, fd: int, entry: Entry, owner: Owner) -> None:
        set_metadata(self._inodes, fd, entry, owner)
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def adopt(self, directory: int, path: bytes, data: EntryRef, entry: Entry) -> None:
        """As ``put`` of a regular file whose data are on the same file system already; nothing is at ``path``."""
        ref = self._ref(directory, path)
        os.rename(data[1], ref[1], src_dir_fd=data[0], dst_dir_fd=ref[0])
        fd = os.open(ref[1], os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=ref[0])
        try:
            self._describe_file(fd, entry, (entry.uid, entry.gid))
        finally:
            os.close(fd)

    def describe_directory(self, ref: tuple[int, bytes], entry: Entry, owner: Owner, *, existed: bool) -> None:
        fd = os.open(_name(ref[1]), OPEN_DIRECTORY, dir_fd=self._in(*ref))
        try:
            if existed:
                drop_xattrs(self._inodes, fd, entry)
            set_metadata(self._inodes, fd, entry, owner)
        finally:
            os.close(fd)

    def describe_root(self, entry: Entry, owner: Owner) -> bool:
        if self._rootfs.excluded:
            return False
        set_metadata(self._inodes, self._rootfs.fd, entry, owner)
        return True

    def link(self, source: tuple[int, bytes], target: tuple[int, bytes]) -> None:
        of, to = self._ref(*source), self._ref(*target)
        try:
            os.link(of[1], to[1], src_dir_fd=of[0], dst_dir_fd=to[0], follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # One of the two is at a masked path, on another file system: a copy stands for the link.
            info = self._inodes.stat(of)
            if stat.S_ISDIR(info.st_mode):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from error
            FileCopier(self._rootfs, self._rootfs).copy_entry(of, to, info)

    def set_directory_time(self, path: bytes, mtime_ns: int) -> None:
        try:
            fd = self._rootfs.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        try:
            os.utime(fd, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(fd)

    # --- afterwards

    def packable(self, path: bytes) -> Packable | None:
        parent, _, name = path.rpartition(b"/")
        found = self._directories.find(parent)
        if found is None:
            raise changed_meanwhile(path, "removed")
        ref = self._ref(found, self._directories.real_path(parent, name))
        info = self._inodes.stat(ref)
        entry = described(path, info)
        if entry is None:
            return None
        if entry.type == entries.SYMLINK:
            entry.linkname = os.readlink(name, dir_fd=ref[0])
        inode = (info.st_dev, info.st_ino) if info.st_nlink > 1 and entry.type != entries.DIRECTORY else None
        if entry.type == entries.REGULAR:
            return Packable(entry, inode, partial(self._open_data, entry, ref))
        return Packable(entry, inode, partial(self._no_data, entry, ref))

    @contextmanager
    def _open_data(self, entry: Entry, ref: EntryRef) -> Iterator[int | None]:
        with open_data(ref) as fd:
            self._holes.add(fd, entry.name)
            entry.xattrs = as_bytes(self._inodes.xattrs(fd))
            yield fd

    def _no_data(self, entry: Entry, ref: EntryRef) -> AbstractContextManager[int | None]:
        entry.xattrs = as_bytes(self._inodes.xattrs(ref))
        return nullcontext()


class _DiskState:
    def __init__(self, target: DiskTarget, state: EntryState) -> None:
        self._target = target
        self._state = state

    def equals(self, directory: int, path: bytes) -> bool:
        return self._state.equals(self._target._ref(directory, path), self._target.limit_ns)

    def close(self) -> None:
        self._state.close()


class _DiskWay:
    def __init__(self, target: DiskTarget, down: Descent) -> None:
        self._target = target
        self._down = down

    @property
    def directory(self) -> int:
        return self._down.fd

    def enter(self, path: bytes) -> None:
        self._down.enter(_name(path), self._target._in(self._down.fd, path))

    def leave(self) -> None:
        self._down.leave()

    def __enter__(self) -> _DiskWay:
        return self

    def __exit__(self, *_: object) -> None:
        self._down.close()


class _DiskCopier:
    def __init__(self, target: DiskTarget, files: FileCopier) -> None:
        self._target = target
        self._files = files

    def copy(
        self, source: SourceEntry, target: tuple[int, bytes], info: os.stat_result, attributes: Attributes
    ) -> None:
        self._files.copy_entry(source.ref, self._target._ref(*target), info, attributes)

    def remove(self, directory: int, path: bytes) -> None:
        self._files.remove(self._target._ref(directory, path))
        self._target.invalidate()


def described(path: bytes, info: os.stat_result) -> Entry | None:
    """The tar entry of a file of the disk, without data, xattrs and the target of a link; None for a socket."""
    kind = stat.S_IFMT(info.st_mode)
    type_ = TYPES.get(kind)
    if type_ is None:
        return None  # a socket: useless in another container, and tar has no type for it
    entry = Entry(path, type_, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, 0, info.st_mtime_ns)
    if type_ == entries.REGULAR:
        entry.size = info.st_size
    elif type_ == entries.SYMLINK:
        entry.mode = 0o777
    elif type_ in (entries.CHARACTER, entries.BLOCK_DEVICE):
        entry.major, entry.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
    return entry


TYPES = {
    stat.S_IFREG: entries.REGULAR,
    stat.S_IFDIR: entries.DIRECTORY,
    stat.S_IFLNK: entries.SYMLINK,
    stat.S_IFIFO: entries.FIFO,
    stat.S_IFCHR: entries.CHARACTER,
    stat.S_IFBLK: entries.BLOCK_DEVICE,
}


@contextmanager
def open_data(ref: EntryRef) -> Iterator[int]:
    """A descriptor of a regular file."""
    fd = os.open(ref[1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=ref[0])
    try:
        yield fd
    finally:
        os.close(fd)


def as_bytes(xattrs: dict[str, bytes]) -> dict[bytes, bytes]:
    return {os.fsencode(name): value for name, value in xattrs.items()}


def changed_meanwhile(path: bytes, how: str) -> FileSystemError:
    """The error for an entry that something else changed while it was packed."""
    return FileSystemError(
        f"cannot pack {quote_path(path)}: it was {how} at the same time",
        hint="Use a work directory that nothing else writes to.",
    )


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
