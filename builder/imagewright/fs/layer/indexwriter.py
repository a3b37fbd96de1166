"""Writes the index of a layer while its entries are read or packed: the form of an index is here, and in its reader.

No I/O. An index is compressed with zstd: its version and the diff ID of its layer, a record for each entry, and a last
one with their count, so that one that was cut off is noticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import zstandard

from imagewright.digest import Digest
from imagewright.fs.tar.entries import DIRECTORY, REGULAR, Entry, plausible_time
from imagewright.fs.tar.reader import TarReader

_MAGIC, _ROUNDED = b"imagewright layer index 1\n", b"imagewright layer times 1\n"  # of one length
# type, mode, uid, gid, stored size, size, mtime, major, minor; lengths of name, link and kept data; count of xattrs
RECORD = struct.Struct("<cHIIQQqIIIIiH")
XATTR = struct.Struct("<II")  # lengths of name and value
END = b"E"  # the type of the last record, whose size is the count of entries
MAX_KEPT_BYTES = 1 << 20
MAX_INDEX_BYTES = 16 << 20  # of one that is made: millions of entries, or hostile names and attributes
_KEPT = frozenset({b"etc/passwd", b"etc/group"})  # what names of owners are looked up in
_KEPT_ENDS = tuple(_KEPT)
_LEVEL = 3  # its window is 2 MiB, which a reader relies on
_CHUNK_BYTES = 1 << 16


def head(diff_id: Digest, *, rounded: bool = False) -> bytes:
    """What the index of a layer begins with, uncompressed; ``rounded``: if its times are rounded to seconds."""
    return (_ROUNDED if rounded else _MAGIC) + str(diff_id).encode() + b"\n"


def packed_head(diff_id: Digest, *, rounded: bool = False) -> bytes:
    """The same as it is stored, in front of the parts that an ``IndexWriter`` makes."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(head(diff_id, rounded=rounded))


def _ignore(part: bytes) -> None:
    """For ``IndexWriter``."""


class IndexWriter:
    """Makes an index of entries in their order. The layer's name is only known at the end, and compressed apart.

    None is made, and nothing held in memory, of a layer whose index would be larger than ``room``, in bytes. ``sink``
    is given each part when it is made.
    """

    def __init__(self, room: int = MAX_INDEX_BYTES, sink: Callable[[bytes], None] = _ignore) -> None:
        self._sink = sink
        self._packed = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self._parts: list[bytes] = []
        self._waiting = bytearray()
        self._count = 0
        self._room = room

    @staticmethod
    def keeps(entry: Entry) -> bool:
        """Whether the data of an entry are in the index."""
        if entry.type != REGULAR or entry.size > MAX_KEPT_BYTES or entry.segments is not None:
            return False
        return entry.name.endswith(_KEPT_ENDS) and entry.name.lstrip(b"./") in _KEPT

    def add(self, entry: Entry, kept: bytes | None = None) -> None:
        """Add an entry, with its data if it ``keeps`` them."""
        if self._room < 0:
            return
        name = entry.name.rstrip(b"/") if entry.type == DIRECTORY else entry.name
        self._record(entry, len(name), -1 if kept is None else len(kept))
        self._waiting += name
        if entry.linkname:
            self._waiting += entry.linkname
        if kept:
            self._waiting += kept
        if entry.xattrs:
            for key, value in sorted(entry.xattrs.items()):
                self._waiting += XATTR.pack(len(key), len(value)) + key + value
        self._count += 1
        if len(self._waiting) >= _CHUNK_BYTES:
            self._compress()

    def _record(self, entry: Entry, name: int, kept: int) -> None:
        self._waiting += RECORD.pack(
            entry.type,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.real_size or entry.size,
            plausible_time(entry.mtime_ns),
            entry.major,
            entry.minor,
            name,
            len(entry.linkname),
            kept,
            len(entry.xattrs),
        )

    def finish(self, diff_id: Digest, *, rounded: bool = False) -> bytes:
        """The index, of the layer ``diff_id``; b"" if it would be too large. ``rounded`` is as for ``head``."""
        self._record(Entry(b"", END, 0, 0, 0, self._count, 0), 0, -1)
        self._compress()
        self._append(self._packed.flush())
        if self._room < 0:
            return b""
        return packed_head(diff_id, rounded=rounded) + b"".join(self._parts)

    def _compress(self) -> None:
        self._append(self._packed.compress(bytes(self._waiting)))
        self._waiting.clear()

    def _append(self, part: bytes) -> None:
        self._parts.append(part)
        self._room -= len(part)
        if self._room < 0:
            self._parts.clear()
        else:
            self._sink(part)


class IndexingReader:
    """The entries of a layer, each of which is added to an index when it is read."""

    def __init__(self, reader: TarReader, index: IndexWriter) -> None:
        self._reader = reader
        self._index = index
        self._kept: bytes | None = None  # the data of the current entry

    def next(self) -> Entry | None:
        """As ``TarReader.next``."""
        entry = self._reader.next()
        self._kept = None
        if entry is not None:
            if self._index.keeps(entry):
                self._kept = b"".join(self._reader.chunks())
            self._index.add(entry, self._kept)
        return entry

    def buffered(self) -> memoryview | None:
        """As ``TarReader.buffered``."""
        return self._reader.buffered() if self._kept is None else memoryview(self._kept)

    def chunks(self) -> Iterator[bytes | memoryview]:
        """As ``TarReader.chunks``."""
        return self._reader.chunks() if self._kept is None else iter((self._kept,))
