"""Applies a layer to a root file system (OCI image-layout layer.md, "Applying Changesets").

Writes below the root it is given, never outside. The parent of every entry is resolved inside the root, and entries are
created through its descriptor.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.layer.restore import drop_xattrs, set_metadata, set_special_metadata, write_data, write_sparse
from imagewright.fs.paths import check_length, quote_entry
from imagewright.fs.rootfs.attributes import EntryRef
from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.entrystate import state_of
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.filecopy import FileCopier, make_directory
from imagewright.fs.rootfs.root import OPEN_DIRECTORY, Rootfs
from imagewright.fs.rootfs.tree import remove_entry
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import Entry, malformed
from imagewright.fs.tar.reader import TarReader
from imagewright.streams import Readable

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_AUFS = b".wh..wh."  # AUFS kept its own files under names like .wh..wh.plnk: not content


@dataclass(slots=True)
class UnpackStats:
    """What was unpacked. ``written``, the paths that changed, is only collected with ``UnpackOptions.keep_written``."""

    entries: int = 0
    size: int = 0
    skipped_devices: int = 0
    written: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class UnpackOptions:
    """How an archive is applied.

    ``whiteouts``: names with the prefix ``.wh.`` delete files (layers), or are ordinary names (archives of ADD). In
    archives ``..`` cannot leave the root (BuildKit); in layers it is an error.
    ``ownership``: (uid, gid) for everything, instead of the archive's. ``keep_written``: collect the written paths.
    """

    whiteouts: bool = True
    ownership: tuple[int, int] | None = None
    keep_written: bool = False
    limits: Limits = field(default_factory=Limits)


def unpack_layer(rootfs: Rootfs, stream: Readable, options: UnpackOptions = UnpackOptions()) -> UnpackStats:
    """Apply an uncompressed tar.

    Raises:
        FileSystemError: reasons ``LayerInvalid``, ``PathNotAllowed``, ``IdOutOfRange``, ``LimitExceeded``,
        ``DiskFull``.
    """
    return _Unpacker(rootfs, options).run(stream)


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where an entry goes: its open parent, its path in the archive, and ``real_path``, its path without links."""

    directory: int
    path: bytes
    real_path: bytes

    @property
    def name(self) -> bytes:
        return self.path.rpartition(b"/")[2]


class _Unpacker:
    def __init__(self, rootfs: Rootfs, options: UnpackOptions) -> None:
        self._rootfs = rootfs
        self._options = options
        self._directories = DirectoryCache(rootfs)
        self._stats = UnpackStats()
        self._times: dict[bytes, int] = {}  # of directories: set at the end, since adding entries changes them
        # Paths of this layer and their parents: a whiteout, at any position, hides only entries of lower layers.
        self._fresh: set[bytes] = set()
        self._skipped: set[bytes] = set()  # devices that could not be created
        self._opaque: set[bytes] = set()  # real paths of directories that have nothing of lower layers any more
        self._what = "the layer" if options.whiteouts else "the archive"
        self._meter = Meter(options.limits, self._what)

    def run(self, stream: Readable) -> UnpackStats:
        entry: Entry | None = None
        what = self._what
        try:
            reader = TarReader(stream, what)
            while (entry := reader.next()) is not None:
                self._meter.entry(entry)
                self._apply(entry, reader)
            self._set_times()
        except OSError as error:
            action, place = ("unpack", quote_entry(entry.name)) if entry is not None else (f"unpack {what}", "")
            raise explain(error, action, place, self._rootfs.full_hint) from error
        finally:
            self._directories.close()
        self._stats.entries, self._stats.size = self._meter.entries, self._meter.size
        return self._stats

    def _apply(self, entry: Entry, reader: TarReader) -> None:
        path = self._path(entry.name)
        if not path:
            if entry.type == entries.DIRECTORY and self._options.whiteouts:
                self._root(entry)
            return
        if self._rootfs.excluded and self._rootfs.is_excluded(path):
            return
        parent, _, name = path.rpartition(b"/")
        if self._options.whiteouts:
            if name.startswith(_WHITEOUT):
                self._whiteout(parent, name)
                return
            self._remember(path, parent)
        directory = self._directories.ensure(parent, self._make_missing)
        real_path = self._directories.real_path(parent, name)
        if self._rootfs.excluded and self._rootfs.is_excluded(real_path):
            return
        destination = _Destination(directory, path, real_path)
        before = (
            state_of((self._parent_fd(destination), name), self._rootfs.inodes) if self._options.keep_written else None
        )
        with before or nullcontext():
            self._create(entry, reader, destination)
            if self._options.keep_written and (
                before is None or not before.equals((self._parent_fd(destination), name))
            ):
                self._stats.written.append(path)

    def _path(self, name: bytes) -> bytes:
        """The name of an entry, or of the target of a hard link, as a root-relative path.

        Raises:
            FileSystemError: it is not a path, or, in a layer, is outside the root.
        """
        if b"\0" in name:
            raise malformed(f"entry {quote_entry(name)} has a NUL byte in its name")
        parts: list[bytes] = []
        for part in name.split(b"/"):
            if part == b"..":
                if self._options.whiteouts:  # no honest layer has it
                    raise _points_out(name)
                del parts[-1:]
            elif part not in (b"", b"."):
                parts.append(part)
        path = b"/".join(parts)
        check_length(path)
        return path

    def _remember(self, path: bytes, parent: bytes) -> None:
        fresh = self._fresh
        fresh.add(path)
        while parent and parent not in fresh:
            fresh.add(parent)
            self._meter.path(parent)
            parent = parent.rpartition(b"/")[0]

    def _root(self, entry: Entry) -> None:
        fd = self._rootfs.fd
        if not self._rootfs.excluded:
            set_metadata(self._rootfs.inodes, fd, entry, self._owner(entry))
            self._times[b""] = entry.mtime_ns

    def _make_missing(self, parent_fd: int, path: bytes) -> None:
        """Create a directory that no entry describes."""
        self._meter.directory()
        make_directory(self._rootfs, parent_fd, path, self._options.ownership or (0, 0))

    # --- whiteouts

    def _whiteout(self, parent: bytes, name: bytes) -> None:
        if name == _OPAQUE:
            self._make_opaque(parent)
            return
        if name.startswith(_AUFS):
            return
        hidden = name[len(_WHITEOUT) :]
        if hidden in (b"", b".", b".."):
            raise malformed(f"invalid whiteout {quote_entry(parent + b'/' + name)}: it does not name a file")
        path = parent + b"/" + hidden if parent else hidden
        directory = self._directories.find(parent)
        if directory is None or (self._rootfs.excluded and self._directories.is_excluded(parent, hidden)):
            return
        real_path = self._directories.real_path(parent, hidden)
        if path not in self._fresh:
            self._remove(directory, real_path)
        elif _is_directory(self._rootfs.parent_fd(directory, real_path), hidden):
            self._make_opaque(path)  # it is also in this layer: remove what lower layers have in it

    def _make_opaque(self, parent: bytes) -> None:
        """Remove what lower layers have in a directory; entries of this layer stay, in any order of the tar.

        Done once for a directory: whatever is added to it afterwards is this layer's.
        """
        waiting = [parent]
        while waiting:
            parent = waiting.pop()
            directory = self._directories.find(parent)
            if directory is None:
                continue
            prefix = parent + b"/" if parent else b""
            real = self._rootfs.path_of(directory)  # once: a link on the path may be removed below
            if real in self._opaque:
                continue
            self._opaque.add(real)
            self._meter.path(real)
            for name in self._rootfs.names(directory, real):
                path, real_path = prefix + name, real + b"/" + name if real else name
                if self._rootfs.excluded and self._rootfs.is_excluded(real_path):
                    continue
                if path not in self._fresh:
                    self._remove(directory, real_path)
                elif _is_directory(self._rootfs.parent_fd(directory, real_path), name):
                    waiting.append(path)

    def _remove(self, directory: int, real_path: bytes) -> None:
        """Remove the entry at ``real_path``, a path without links, from its open parent."""
        try:
            name, parent = real_path.rpartition(b"/")[2], self._rootfs.parent_fd(directory, real_path)
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            remove_entry(directory, real_path, self._rootfs)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._directories.invalidate()

    # --- entries

    def _create(self, entry: Entry, reader: TarReader, destination: _Destination) -> None:
        match entry.type:
            case entries.REGULAR:
                self._file(entry, reader, destination)
                return
            case entries.DIRECTORY:
                self._directory(entry, destination)
                return
            case entries.SYMLINK:
                if not entry.linkname or b"\0" in entry.linkname:
                    raise malformed(f"symbolic link {quote_entry(destination.path)} has an invalid target")
                self._replacing(destination, lambda: self._symlink(entry, destination))
            case entries.HARDLINK:
                self._hardlink(entry, destination)
                return
            case entries.FIFO:
                self._replacing(destination, lambda: self._rootfs.inodes.create_fifo(self._ref(destination)))
            case _:
                if not self._device(entry, destination):
                    return
        set_special_metadata(self._rootfs.inodes, self._ref(destination), entry, self._owner(entry))

    def _parent_fd(self, destination: _Destination) -> int:
        """The open directory that is to contain the entry: a different one if its path is masked."""
        return self._rootfs.parent_fd(destination.directory, destination.real_path)

    def _ref(self, destination: _Destination) -> EntryRef:
        return self._parent_fd(destination), destination.name

    def _symlink(self, entry: Entry, destination: _Destination) -> None:
        if self._rootfs.relocate_mounts(destination.real_path, entry.linkname):
            self._directories.invalidate()
        self._rootfs.inodes.create_link(self._ref(destination), entry.linkname)

    def _replacing(self, destination: _Destination, make: Callable[[], None]) -> None:
        """Run ``make``; if an entry exists already, remove it and retry."""
        try:
            make()
        except FileExistsError:
            self._remove(destination.directory, destination.real_path)
            make()

    def _file(self, entry: Entry, reader: TarReader, destination: _Destination) -> None:
        try:
            fd = self._rootfs.inodes.create_file(self._ref(destination))
        except FileExistsError:
            self._remove(destination.directory, destination.real_path)
            fd = self._rootfs.inodes.create_file(self._ref(destination))
        try:
            if entry.segments is None:
                write_data(fd, reader)
            else:
                write_sparse(fd, reader, entry)
            set_metadata(self._rootfs.inodes, fd, entry, self._owner(entry))
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, destination: _Destination) -> None:
        existed = False
        try:
            self._rootfs.mkdir(destination.directory, destination.real_path)
        except FileExistsError:
            existed = True
        try:
            fd = os.open(destination.name, OPEN_DIRECTORY, dir_fd=self._parent_fd(destination))
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            self._remove(destination.directory, destination.real_path)
            self._rootfs.mkdir(destination.directory, destination.real_path)
            fd = os.open(destination.name, OPEN_DIRECTORY, dir_fd=self._parent_fd(destination))
            existed = False
        try:
            if existed:
                drop_xattrs(self._rootfs.inodes, fd, entry)
            set_metadata(self._rootfs.inodes, fd, entry, self._owner(entry))
        finally:
            os.close(fd)
        self._times[destination.path] = entry.mtime_ns

    def _hardlink(self, entry: Entry, destination: _Destination) -> None:
        path = destination.path
        target = self._path(entry.linkname)
        if not target or self._rootfs.is_excluded(target):
            raise _not_the_images(path, entry)
        parent, _, target_name = target.rpartition(b"/")

        def source() -> EntryRef:
            directory = self._directories.find(
                parent
            )  # looked up again: it may be below an entry that the link replaces
            if directory is None:
                raise _nothing_there(path, entry)
            return self._rootfs.parent_fd(directory, self._directories.real_path(parent, target_name)), target_name

        file = source()
        if target in self._skipped:
            self._skipped.add(path)
            self._stats.skipped_devices += 1
            return
        if self._rootfs.excluded and self._directories.is_excluded(parent, target_name):
            raise _not_the_images(path, entry)
        if _is_one_file(file, (self._parent_fd(destination), destination.name)):
            return  # added to the archive twice: GNU tar writes the second as a link to the first, which is itself

        def make() -> None:
            try:
                self._link(source(), (self._parent_fd(destination), destination.name))
            except FileNotFoundError:
                raise _nothing_there(path, entry) from None
            except PermissionError:
                raise malformed(f"hard link {quote_entry(path)} refers to a directory") from None

        # Descriptors stay valid when the cache is invalidated: it keeps the most recent ones open.
        self._replacing(destination, make)

    def _link(self, source: EntryRef, target: EntryRef) -> None:
        try:
            os.link(source[1], target[1], src_dir_fd=source[0], dst_dir_fd=target[0], follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # One of the two is at a masked path, on another file system: a copy stands for the link.
            info = self._rootfs.inodes.stat(source)
            if stat.S_ISDIR(info.st_mode):
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM)) from error
            FileCopier(self._rootfs, self._rootfs).copy_entry(source, target, info)

    def _device(self, entry: Entry, destination: _Destination) -> bool:
        kind = stat.S_IFCHR if entry.type == entries.CHARACTER else stat.S_IFBLK
        number = os.makedev(entry.major, entry.minor)
        try:
            self._replacing(
                destination, lambda: self._rootfs.inodes.create_device(self._ref(destination), kind, number)
            )
        except PermissionError:
            # Devices cannot be created in a user namespace, and containers have their own /dev. The layer itself is
            # unchanged: the image has the device, only a RUN of this build cannot see it.
            self._stats.skipped_devices += 1
            self._skipped.add(destination.path)
            return False
        return True

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self._options.ownership or (entry.uid, entry.gid)

    def _set_times(self) -> None:
        for path, mtime_ns in sorted(self._times.items(), reverse=True):
            try:
                fd = self._rootfs.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    continue  # a later entry replaced it
                raise
            try:
                os.utime(fd, ns=(mtime_ns, mtime_ns))
            finally:
                os.close(fd)


def _not_the_images(path: bytes, entry: Entry) -> FileSystemError:
    return FileSystemError(
        f"hard link {quote_entry(path)} refers to {quote_entry(entry.linkname)}, which is not a file of the image",
        reason=Reason.PATH_NOT_ALLOWED,
        hint="If it is a file of the executor, use the namespace sandbox, which has its own root.",
    )


def _nothing_there(path: bytes, entry: Entry) -> FileSystemError:
    return malformed(f"hard link {quote_entry(path)} refers to {quote_entry(entry.linkname)}, which does not exist")


def _points_out(name: bytes) -> FileSystemError:
    return FileSystemError(
        f"entry {quote_entry(name)} is outside the root file system",
        reason=Reason.PATH_NOT_ALLOWED,
        hint="Do not use this image: '..' in the name of an entry is an attack on whoever unpacks it.",
    )


def _is_one_file(one: EntryRef, other: EntryRef) -> bool:
    try:
        return os.path.samestat(
            *(os.stat(name, dir_fd=directory, follow_symlinks=False) for directory, name in (one, other))
        )
    except FileNotFoundError:
        return False


def _is_directory(directory: int, name: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False
