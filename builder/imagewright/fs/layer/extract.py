"""Writes a part of an image to disk: entries that its virtual root has, with their data from its layers.

Writes below the root it is given, never outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import field
from functools import partial

from imagewright.digest import Digest
from imagewright.errors import FileSystemError
from imagewright.fs.layer.capture import Captured
from imagewright.fs.paths import join, quote_entry
from imagewright.fs.rootfs.errors import explain
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.disk import DiskTarget
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import MAX_LINK_BYTES, Directory, LayerData, Node
from imagewright.fs.targets.part import Part
from imagewright.fs.targets.virtual import entry_of
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class _File:
    """A file whose data are in a layer, and the paths that it gets."""

    node: Node
    paths: list[bytes] = field(default_factory=list)


class WrongIndexError(FileSystemError):
    """A layer is not what its index says."""


class Extraction:
    """Writes ``part`` to ``rootfs``, which is empty: first everything but the data, then these, layer by layer.

    Every method raises FileSystemError as ``unpack_layer`` does, for what the disk refuses.
    """

    def __init__(self, part: Part, rootfs: Rootfs) -> None:
        self._part = part
        self._target = DiskTarget(rootfs)
        self._files: dict[LayerData, _File] = {}
        self._directories: list[tuple[bytes, int]] = [(b"", part.top.mtime_ns)]  # and their times
        self._made: dict[Node, bytes] = {}  # the first names of entries with several
        self.skipped_devices = 0

    def write_entries(self) -> None:
        """Write everything but files with data.

        Raises:
            NotVirtualError: a path is too long to be opened at once; links may lead there in steps.
        """
        root = entry_of(b"", self._part.top)
        with self._explaining(b""):
            self._target.describe_root(root, (root.uid, root.gid))
        for above, name, node in self._part.entries():
            path = join(above, name)
            if len(path) > MAX_LINK_BYTES:
                raise NotVirtualError
            with self._explaining(path):
                self._write_entry(above, path, node)

    def _write_entry(self, above: bytes, path: bytes, node: Node) -> None:
        if stat.S_ISREG(node.mode) and node.size and isinstance(node.data, LayerData):
            file = self._files.setdefault(node.data, _File(node))
            if file.node is not node:  # a layer that the image has twice, and a link to a file of the first
                raise NotVirtualError
            file.paths.append(path)
            return
        directory, entry, target = self._open(above), entry_of(path, node), self._target
        owner = node.uid, node.gid
        if isinstance(node, Directory):
            target.mkdir(directory, path)
            target.describe_directory((directory, path), entry, owner, existed=False)
            self._directories.append((path, node.mtime_ns))
        elif node in self._made:
            self._link(self._made[node], path)
        elif not target.put(directory, path, entry, _NoData(), owner):
            self.skipped_devices += 1
        elif node.links > 1:
            self._made[node] = path

    def adopt(self, layer: Digest, captured: Mapping[int, Captured]) -> None:
        """Take the data of files in a layer from ``captured``, by the numbers of their entries.

        They were captured while the layer's index was made, which is therefore right.
        """
        for data in [data for data in self._files if data.layer == layer and data.number in captured]:
            found = captured[data.number]
            self._place(self._files.pop(data), partial(self._target.adopt, data=found.ref, entry=found.entry))

    def needs(self, layer: Digest) -> bool:
        """Whether data are missing that are in a layer."""
        return any(data.layer == layer for data in self._files)

    def write_data(self, layer: Digest, reader: TarReader) -> None:
        """Write the data of the files in a layer.

        Raises:
            WrongIndexError: the layer is not what its index says.
        """
        for number, entry in enumerate(reader):
            file = self._files.pop(LayerData(layer, number), None)
            if file is None:
                continue
            if not _describes(entry, file.node):
                raise _wrong_index(entry.name)
            owner = entry.uid, entry.gid
            self._place(file, partial(self._target.put, entry=entry, reader=reader, owner=owner))
        for data, file in self._files.items():
            if data.layer == layer:
                raise _wrong_index(file.paths[0])

    def finish(self) -> None:
        """Set the times of directories, which were changed by what was added to them."""
        for path, mtime_ns in reversed(self._directories):
            with self._explaining(path):
                self._target.set_directory_time(path, mtime_ns)

    def close(self) -> None:
        self._target.close()

    def _place(self, file: _File, put: Callable[[int, bytes], object]) -> None:
        path, *others = file.paths
        with self._explaining(path):
            put(self._open(path.rpartition(b"/")[0]), path)
            for other in others:
                self._link(path, other)

    def _link(self, path: bytes, other: bytes) -> None:
        parents = [self._open(each.rpartition(b"/")[0]) for each in (path, other)]
        self._target.link((parents[0], path), (parents[1], other))

    def _open(self, path: bytes) -> int:
        directory = self._target.find(path)
        if directory is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return directory

    @contextmanager
    def _explaining(self, path: bytes) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise explain(error, "unpack", quote_entry(path), self._target.full_hint) from error


class _NoData:
    """Of an entry that has none."""

    def buffered(self) -> memoryview | None:
        return memoryview(b"")

    def chunks(self) -> Iterator[bytes | memoryview]:
        return iter(())


def _wrong_index(name: bytes) -> WrongIndexError:
    return WrongIndexError(
        f"cannot unpack {quote_entry(name)}: the index of the layer is of another one",
        why="an entry is not what the layer has",
        hint="Clear the cache that has the index.",
    )


def _describes(entry: Entry, node: Node) -> bool:
    """Whether an entry is the one that a node was made of."""
    found = (entry.type, entry.mode & 0o7777, entry.uid, entry.gid, entry.real_size, entry.mtime_ns)
    return found == (REGULAR, stat.S_IMODE(node.mode), node.uid, node.gid, node.size, node.mtime_ns)
