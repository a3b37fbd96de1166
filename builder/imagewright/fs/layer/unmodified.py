"""Filters out files whose ctime changed but nothing else: chmod to the same mode, link and unlink.

Reads layers and the root file system. Since the old file is not available, it is compared with the topmost layer that
has it.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

from imagewright.fs.layer.changes import Changes
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.inodes import Inodes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import HARDLINK, REGULAR, SYMLINK, Entry
from imagewright.fs.tar.reader import TarReader
from imagewright.records import dataclass
from imagewright.streams import Readable

# A byte saved in a layer is worth reading this many; beyond that the file is packed, which is not an error.
_WORTH = 8
_FREE_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A lower layer: its compressed size in bytes, and a function that opens its tar."""

    size: int
    open: Callable[[], AbstractContextManager[Readable]]


def drop_unmodified(rootfs: Rootfs, changes: Changes, layers: Iterable[StoredLayer]) -> Changes:
    """The changes without files that are equal in the layers. ``layers``: topmost first.

    Raises:
        FileSystemError: a file cannot be read, or a layer is damaged.
    """
    if not changes.touched:
        return changes
    directories = DirectoryCache(rootfs)
    try:
        search = _Search(directories, rootfs.inodes, changes.touched)
        budget = _FREE_BYTES + _WORTH * search.size
        for layer in layers:
            budget -= layer.size
            if not search.wanted or budget < 0:
                break
            with layer.open() as stream:
                search.read(TarReader(stream))
        same = search.unchanged()
    except OSError as error:
        raise explain(error, "compare files with the layers below") from error
    finally:
        directories.close()
    return Changes(tuple(path for path in changes.written if path not in same), changes.removed)


class _Search:
    """``wanted`` are the paths that no layer has contained so far."""

    def __init__(self, directories: DirectoryCache, inodes: Inodes, touched: Iterable[bytes]) -> None:
        self._directories = directories
        self._inodes = inodes
        self._info = {path: info for path in touched if (info := self._stat(path)) is not None}
        self._same: set[bytes] = set()
        self.wanted = set(self._info)
        self.size = sum(info.st_size for info in self._info.values())

    def read(self, reader: TarReader) -> None:
        """Compare the wanted paths that a layer contains."""
        found: set[bytes] = set()
        for entry in reader:
            path = os.path.normpath(entry.name).lstrip(b"/")
            if path in self.wanted:  # the last entry of a path counts
                found.add(path)
                self._same.discard(path)
                if self._is_same(path, entry, reader):
                    self._same.add(path)
        self.wanted -= found

    def unchanged(self) -> set[bytes]:
        """Paths of which every hard link is unmodified: one that is packed alone would become a separate file."""
        changed = {self._inode(path) for path in self._info if path not in self._same}
        return {path for path in self._same if self._inode(path) not in changed}

    def _is_same(self, path: bytes, entry: Entry, reader: TarReader) -> bool:
        info = self._info[path]
        if entry.type == HARDLINK:
            target = os.path.normpath(entry.linkname).lstrip(b"/")
            return target in self._same and self._inode(target) == self._inode(path)
        parent, _, name = path.rpartition(b"/")
        directory = self._directories.find(parent)
        if directory is None or not self._same_xattrs(entry, (directory, name)):
            return False
        if stat.S_ISLNK(info.st_mode):
            return entry.type == SYMLINK and entry.linkname == os.readlink(name, dir_fd=directory)
        if not stat.S_ISREG(info.st_mode) or entry.type != REGULAR or entry.segments is not None:
            return False
        return entry.size == info.st_size and _same_content(reader, directory, name)

    def _same_xattrs(self, entry: Entry, ref: EntryRef) -> bool:
        return entry.xattrs == {os.fsencode(name): value for name, value in self._inodes.xattrs(ref).items()}

    def _stat(self, path: bytes) -> os.stat_result | None:
        parent, _, name = path.rpartition(b"/")
        directory = self._directories.find(parent)
        return None if directory is None else self._inodes.stat((directory, name))

    def _inode(self, path: bytes) -> tuple[int, int]:
        info = self._info[path]
        return info.st_dev, info.st_ino


def _same_content(reader: TarReader, directory: int, name: bytes) -> bool:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with open(fd, "rb") as file:
        return all(file.read(len(chunk)) == chunk for chunk in reader.chunks())
