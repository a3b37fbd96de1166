"""Applies a layer to a root file system (OCI image-layout layer.md, "Applying Changesets").

Writes below the root it is given, never outside. The parent of every entry is resolved inside the root, and entries are
created through its descriptor.
"""

from __future__ import annotations

import stat
from contextlib import closing, suppress
from dataclasses import field
from typing import Generic, NamedTuple, Protocol

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.layer.indexwriter import IndexingReader, IndexWriter
from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.paths import check_length, quote_entry
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import Entry, malformed
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.disk import DiskTarget
from imagewright.fs.targets.model import D, DataReader, State, Target
from imagewright.records import dataclass
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

    @property
    def what(self) -> str:
        """The archive's name in errors."""
        return "the layer" if self.whiteouts else "the archive"


def unpack_layer(
    rootfs: Rootfs,
    stream: Readable,
    options: UnpackOptions = UnpackOptions(),  # noqa: B008 -- frozen
    index: IndexWriter | None = None,
) -> UnpackStats:
    """Apply an uncompressed tar, whose entries are added to ``index``.

    Raises:
        FileSystemError: reasons ``LayerInvalid``, ``PathNotAllowed``, ``IdOutOfRange``, ``LimitExceeded``,
        ``DiskFull``.
    """
    target = DiskTarget(rootfs)
    try:
        reader = TarReader(stream, options.what)
        return unpack_into(target, reader if index is None else IndexingReader(reader, index), options)
    finally:
        target.close()


class EntryReader(DataReader, Protocol):
    """Reads the entries of an archive, in order."""

    def next(self) -> Entry | None: ...


def unpack_into(target: Target[D], reader: EntryReader, options: UnpackOptions) -> UnpackStats:
    """Apply the entries of an archive.

    Raises:
        FileSystemError: as ``unpack_layer``.
    """
    return _Unpacker(target, options).run(reader)


class _Destination(NamedTuple, Generic[D]):
    """Where an entry goes: its open parent, its path in the archive, and ``real_path``, its path without links."""

    directory: D
    path: bytes
    real_path: bytes

    @property
    def ref(self) -> tuple[D, bytes]:
        return self.directory, self.real_path


class _Unpacker(Generic[D]):
    def __init__(self, target: Target[D], options: UnpackOptions) -> None:
        self._target = target
        self._options = options
        self._stats = UnpackStats()
        self._times: dict[bytes, int] = {}  # of directories: set at the end, since adding entries changes them
        # Paths of this layer and their parents: a whiteout, at any position, hides only entries of lower layers.
        self._fresh: set[bytes] = set()
        self._skipped: set[bytes] = set()  # devices that could not be created
        self._opaque: set[bytes] = set()  # real paths of directories that have nothing of lower layers any more
        self._meter = Meter(options.limits, options.what)

    def run(self, reader: EntryReader) -> UnpackStats:
        entry: Entry | None = None
        what = self._options.what
        try:
            while (entry := reader.next()) is not None:
                self._meter.entry(entry)
                self._apply(entry, reader)
            self._set_times()
        except OSError as error:
            action, place = ("unpack", quote_entry(entry.name)) if entry is not None else (f"unpack {what}", "")
            raise explain(error, action, place, self._target.full_hint) from error
        self._stats.entries, self._stats.size = self._meter.entries, self._meter.size
        return self._stats

    def _apply(self, entry: Entry, reader: DataReader) -> None:
        path = self._path(entry.name)
        if not path:
            if entry.type == entries.DIRECTORY and self._options.whiteouts:
                self._root(entry)
            return
        if self._target.is_excluded(path):
            return
        parent, _, name = path.rpartition(b"/")
        if self._options.whiteouts:
            if name.startswith(_WHITEOUT):
                self._whiteout(parent, name)
                return
            self._remember(path, parent)
        directory = self._target.ensure(parent, self._make_missing)
        real_path = self._target.real_path(parent, name)
        if self._target.is_excluded(real_path):
            return
        destination = _Destination(directory, path, real_path)
        if not self._options.keep_written:
            self._create(entry, reader, destination)
            return
        before = self._state(destination)
        if before is None:
            self._create(entry, reader, destination)
            self._stats.written.append(path)
            return
        with closing(before):
            self._create(entry, reader, destination)
            if not before.equals(*destination.ref):
                self._stats.written.append(path)

    def _state(self, destination: _Destination[D]) -> State[D] | None:
        try:
            return self._target.state(*destination.ref)
        except FileNotFoundError:
            return None

    def _path(self, name: bytes) -> bytes:
        """The name of an entry, or of the target of a hard link, as a root-relative path.

        Raises:
            FileSystemError: it is not a path, or, in a layer, is outside the root.
        """
        if b"\0" in name:
            raise malformed(f"entry {quote_entry(name)} has a NUL byte in its name")
        if name and b"/." not in name and b"//" not in name and name[0] not in b"./" and name[-1:] != b"/":
            check_length(name)
            return name  # as nearly all are
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
        if self._target.describe_root(entry, self._owner(entry)):
            self._times[b""] = entry.mtime_ns

    def _make_missing(self, parent: D, path: bytes) -> None:
        """Create a directory that no entry describes."""
        self._meter.directory()
        self._target.make_directory(parent, path, self._options.ownership or (0, 0), 0o755)

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
        directory = self._target.find(parent)
        if directory is None:
            return
        real_path = self._target.real_path(parent, hidden)
        if self._target.is_excluded(real_path):
            return
        if path not in self._fresh:
            self._remove(directory, real_path)
        elif self._is_directory(directory, real_path):
            self._make_opaque(path)  # it is also in this layer: remove what lower layers have in it

    def _make_opaque(self, parent: bytes) -> None:
        """Remove what lower layers have in a directory; entries of this layer stay, in any order of the tar.

        Done once for a directory: whatever is added to it afterwards is this layer's.
        """
        waiting = [parent]
        while waiting:
            parent = waiting.pop()
            directory = self._target.find(parent)
            if directory is None:
                continue
            prefix = parent + b"/" if parent else b""
            real = self._target.path_of(directory)  # once: a link on the path may be removed below
            if real in self._opaque:
                continue
            self._opaque.add(real)
            self._meter.path(real)
            for name in self._target.names(directory, real):
                path, real_path = prefix + name, real + b"/" + name if real else name
                if self._target.is_excluded(real_path):
                    continue
                if path not in self._fresh:
                    self._remove(directory, real_path)
                elif self._is_directory(directory, real_path):
                    waiting.append(path)

    def _remove(self, directory: D, real_path: bytes) -> None:
        """Remove the entry at ``real_path``, a path without links, from its open parent."""
        with suppress(FileNotFoundError):
            self._target.remove(directory, real_path)

    def _is_directory(self, directory: D, real_path: bytes) -> bool:
        try:
            return stat.S_ISDIR(self._target.stat(directory, real_path)[0])
        except FileNotFoundError:
            return False

    # --- entries

    def _create(self, entry: Entry, reader: DataReader, destination: _Destination[D]) -> None:
        if entry.type == entries.DIRECTORY:
            self._directory(entry, destination)
            return
        if entry.type == entries.HARDLINK:
            self._hardlink(entry, destination)
            return
        if entry.type == entries.SYMLINK and (not entry.linkname or b"\0" in entry.linkname):
            raise malformed(f"symbolic link {quote_entry(destination.path)} has an invalid target")
        target, owner = self._target, self._owner(entry)
        try:
            made = target.put(*destination.ref, entry, reader, owner)
        except FileExistsError:
            self._remove(*destination.ref)
            made = target.put(*destination.ref, entry, reader, owner)
        if not made:
            self._stats.skipped_devices += 1
            self._skipped.add(destination.path)

    def _directory(self, entry: Entry, destination: _Destination[D]) -> None:
        target, ref = self._target, destination.ref
        existed = False
        try:
            target.mkdir(*ref)
        except FileExistsError:
            existed = self._is_directory(*ref)
            if not existed:
                self._remove(*ref)
                target.mkdir(*ref)
        target.describe_directory(ref, entry, self._owner(entry), existed=existed)
        self._times[destination.path] = entry.mtime_ns

    def _hardlink(self, entry: Entry, destination: _Destination[D]) -> None:
        path, target = destination.path, self._path(entry.linkname)
        if not target or self._target.is_excluded(target):
            raise _not_the_images(path, entry)
        parent, _, target_name = target.rpartition(b"/")

        def source() -> tuple[D, bytes]:
            directory = self._target.find(parent)  # looked up again: it may be below an entry that the link replaces
            if directory is None:
                raise _nothing_there(path, entry)
            return directory, self._target.real_path(parent, target_name)

        file = source()
        if target in self._skipped:
            self._skipped.add(path)
            self._stats.skipped_devices += 1
            return
        if self._target.is_excluded(file[1]):
            raise _not_the_images(path, entry)
        if self._target.is_one(file, destination.ref):
            return  # added to the archive twice: GNU tar writes the second as a link to the first, which is itself

        def make() -> None:
            try:
                self._target.link(source(), destination.ref)
            except FileNotFoundError:
                raise _nothing_there(path, entry) from None
            except PermissionError:
                raise malformed(f"hard link {quote_entry(path)} refers to a directory") from None

        try:
            make()
        except FileExistsError:
            self._remove(*destination.ref)  # open directories stay valid
            make()

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self._options.ownership or (entry.uid, entry.gid)

    def _set_times(self) -> None:
        for path, mtime_ns in sorted(self._times.items(), reverse=True):
            self._target.set_directory_time(path, mtime_ns)


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
