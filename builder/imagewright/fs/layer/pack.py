"""Packs changes as a layer (layer.md, "Creating"): one deterministic tar.

Reads the root file system and writes to the stream it is given, with a few MiB of memory.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.changes import Changes
from imagewright.fs.layer.compress import LayerSink, PackedLayer, PackOptions
from imagewright.fs.paths import quote_path
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.holes import Holes
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar import writer
from imagewright.fs.tar.entries import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    REGULAR,
    SYMLINK,
    Entry,
)
from imagewright.streams import Writable

_WHITEOUT = b".wh."
_DEFAULTS = PackOptions()


def pack_layer(
    rootfs: Rootfs,
    changes: Changes,
    out: Writable,
    options: PackOptions = _DEFAULTS,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> PackedLayer:
    """Write a layer with these changes and their parent directories. ``around`` is as in ``LayerSink``.

    Raises:
        FileSystemError: reason ``DiskFull`` among others.
    """
    sink = LayerSink(out, options, around)
    packer = _Packer(rootfs, sink, options)
    try:
        packer.run(changes)
        return sink.finish()
    except OSError as error:
        raise explain(error, f"pack {quote_path(packer.current)}") from error
    finally:
        sink.stop()


class _Packer:
    def __init__(self, rootfs: Rootfs, sink: LayerSink, options: PackOptions) -> None:
        self._rootfs = rootfs
        self._sink = sink
        self._clamp_ns = None if options.clamp_mtime_s is None else options.clamp_mtime_s * 1_000_000_000
        self._directories = DirectoryCache(rootfs)
        self._links: dict[tuple[int, int], bytes] = {}
        self._holes = Holes()
        self.current = b""

    def run(self, changes: Changes) -> None:
        try:
            for path, removed in _in_order(changes):
                if self._rootfs.is_excluded(path):
                    continue
                self.current = path
                if removed:
                    self._whiteout(path)
                else:
                    self._add(path)
        finally:
            self._directories.close()
        self._sink.write(writer.END)

    def _whiteout(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        marker = (parent + b"/" if parent else b"") + _WHITEOUT + name
        self._sink.write(writer.header(Entry(marker, REGULAR, 0, 0, 0, 0, 0)))

    def _add(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        if name.startswith(_WHITEOUT):
            raise FileSystemError(
                f'cannot pack {quote_path(path)}: the prefix ".wh." is reserved for whiteouts in layers',
                reason=Reason.PATH_NOT_ALLOWED,
                hint="Rename it, or remove it in the step that created it.",
            )
        directory = self._directories.find(parent)
        if directory is None:
            raise _changed_meanwhile(path, "removed")
        directory = self._rootfs.parent_fd(directory, self._directories.real_path(parent, name))
        info = self._rootfs.inodes.stat((directory, name))
        mtime_ns = info.st_mtime_ns if self._clamp_ns is None else min(info.st_mtime_ns, self._clamp_ns)
        entry = Entry(path, REGULAR, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, 0, mtime_ns)
        kind = stat.S_IFMT(info.st_mode)
        if kind != stat.S_IFDIR and info.st_nlink > 1:
            key = (info.st_dev, info.st_ino)
            first = self._links.setdefault(key, path)
            if first is not path:
                entry.type, entry.linkname = HARDLINK, first
                self._sink.write(writer.header(entry))
                return
        if kind == stat.S_IFREG:
            entry.size = info.st_size
            self._file(entry, directory, name)
            return
        if kind == stat.S_IFDIR:
            entry.type = DIRECTORY
        elif kind == stat.S_IFLNK:
            entry.type, entry.linkname, entry.mode = SYMLINK, os.readlink(name, dir_fd=directory), 0o777
        elif kind == stat.S_IFIFO:
            entry.type = FIFO
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.type = CHARACTER if kind == stat.S_IFCHR else BLOCK_DEVICE
            entry.major, entry.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        else:
            return  # a socket: useless in another container, and tar has no type for it
        self._set_xattrs(entry, (directory, name))
        self._sink.write(writer.header(entry))

    def _file(self, entry: Entry, directory: int, name: bytes) -> None:
        size = entry.size
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            self._holes.add(fd, entry.name)
            self._set_xattrs(entry, fd)
            self._sink.write(writer.header(entry))
            if self._sink.write_from(fd, size) < size:
                raise _changed_meanwhile(entry.name, "truncated")
            if size % BLOCK:
                self._sink.write(writer.padding(size))
        finally:
            os.close(fd)

    def _set_xattrs(self, entry: Entry, target: int | EntryRef) -> None:
        entry.xattrs = {os.fsencode(name): value for name, value in self._rootfs.inodes.xattrs(target).items()}
        for name in entry.xattrs:
            if b"=" in name:  # PAX cannot represent it
                raise FileSystemError(
                    f'cannot pack {quote_path(entry.name)}: unsupported extended attribute "{os.fsdecode(name)}"',
                    hint="Remove the attribute in the step that set it: setfattr -x.",
                )


def _changed_meanwhile(path: bytes, how: str) -> FileSystemError:
    return FileSystemError(
        f"cannot pack {quote_path(path)}: it was {how} at the same time",
        hint="Use a work directory that nothing else writes to.",
    )


def _in_order(changes: Changes) -> Iterator[tuple[bytes, bool]]:
    """Every path once, parents first, sorted bytewise by component; with whether it is a whiteout."""
    paths: dict[bytes, bool] = {}
    for removed, group in ((False, changes.written), (True, changes.removed)):
        for path in group:
            above = path
            while (above := above.rpartition(b"/")[0]) and above not in paths:
                paths[above] = False
            paths[path] = removed
    for path in sorted(paths, key=lambda p: p.replace(b"/", b"\0")):  # sorts by component, since names contain no NUL
        yield path, paths[path]
