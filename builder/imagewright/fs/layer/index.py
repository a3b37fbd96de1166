"""The index of a layer: its entries without their data, from which a virtual root is built.

No I/O of its own. An index is compressed with zstd and names its version and the diff ID of its layer (config.md,
"Layer DiffID"). Only a layer can prove what its index says, so an index is trusted as far as who made it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import zstandard

from imagewright.digest import Digest
from imagewright.errors import FileSystemError
from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.layer.unpack import UnpackOptions, unpack_into
from imagewright.fs.tar.entries import REGULAR, malformed
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.virtual import IndexedEntry, VirtualRoot, VirtualTarget
from imagewright.streams import Readable

_MAGIC = b"imagewright layer index 1\n"
# type, mode, uid, gid, stored size, size, mtime, major, minor; lengths of name, link and kept data; count of xattrs
_RECORD = struct.Struct("<cHIIQQqIIIIiH")
_XATTR = struct.Struct("<II")  # lengths of name and value
_LEVEL = 3
_MAX_FIELD_BYTES = 2 << 20  # as the reader of archives limits names and attributes, with some room
_KEPT = frozenset({b"etc/passwd", b"etc/group"})  # what names of owners are looked up in
_MAX_KEPT_BYTES = 1 << 20
_LIMITS = Limits()


def make_index(stream: Readable, diff_id: Digest, limits: Limits = _LIMITS) -> bytes:
    """Read the entries of a layer, an uncompressed tar, and pass over their data.

    Raises:
        FileSystemError: as ``unpack_layer``, for what the archive itself shows.
    """
    packed = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
    parts = [packed.compress(_MAGIC + str(diff_id).encode() + b"\n")]
    reader = TarReader(stream)
    meter = Meter(limits, "the layer")
    for entry in reader:
        meter.entry(entry)
        kept = None
        if entry.type == REGULAR and entry.size <= _MAX_KEPT_BYTES and entry.segments is None:
            kept = b"".join(reader.chunks()) if entry.name.lstrip(b"./") in _KEPT else None
        record = _RECORD.pack(
            entry.type,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            entry.real_size,
            entry.mtime_ns,
            entry.major,
            entry.minor,
            len(entry.name),
            len(entry.linkname),
            -1 if kept is None else len(kept),
            len(entry.xattrs),
        )
        parts.append(packed.compress(record + entry.name + entry.linkname + (kept or b"")))
        for name, value in entry.xattrs.items():
            parts.append(packed.compress(_XATTR.pack(len(name), len(value)) + name + value))
    parts.append(packed.flush())
    return b"".join(parts)


def apply_index(root: VirtualRoot, index: bytes, diff_id: Digest) -> None:
    """Apply a layer, of which ``index`` is the index, to a virtual root.

    Raises:
        FileSystemError: as ``unpack_layer``; the index is damaged, or that of another layer.
        NotVirtualError: the layer has to be unpacked on disk.
    """
    unpack_into(VirtualTarget(root, archive=diff_id), _IndexReader(index, diff_id, root.take), UnpackOptions())


class _IndexReader:
    """The entries of an index."""

    def __init__(self, index: bytes, diff_id: Digest, take: Callable[[int], None]) -> None:
        self._account = take
        self._stream = zstandard.ZstdDecompressor().stream_reader(index)
        self._buffer = b""
        self._position = 0
        self._count = 0
        head = _MAGIC + str(diff_id).encode() + b"\n"
        if self._take(len(head)) != head:
            raise malformed("the index of the layer is of another layer, or of another version")

    def next(self) -> IndexedEntry | None:
        if self._position == len(self._buffer) and not self._fill(1):
            return None
        fields = _RECORD.unpack(self._take(_RECORD.size))
        type_, mode, uid, gid, size, real_size, mtime_ns, major, minor, name, link, kept, xattrs = fields
        entry = IndexedEntry(self._take(name), type_, mode, uid, gid, size, mtime_ns, self._take(link), major, minor)
        entry.real_size = real_size
        entry.number, self._count = self._count, self._count + 1
        entry.kept = None if kept < 0 else self._take(kept)
        for _ in range(xattrs):
            lengths = _XATTR.unpack(self._take(_XATTR.size))
            key = self._take(lengths[0])
            entry.xattrs[key] = self._take(lengths[1])
        fields_bytes = sum(len(key) + len(value) for key, value in entry.xattrs.items())
        self._account(name + link + max(kept, 0) + fields_bytes)
        return entry

    def buffered(self) -> memoryview | None:
        """No data."""
        return None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """No data."""
        return iter(())

    def _take(self, count: int) -> bytes:
        if self._position + count > len(self._buffer) and not self._fill(count):
            raise malformed("the index of the layer is truncated")
        begin = self._position
        self._position += count
        return self._buffer[begin : self._position]

    def _fill(self, count: int) -> bool:
        """Have at least ``count`` bytes in the buffer; False at the end."""
        if count > _MAX_FIELD_BYTES:
            raise malformed("the index of the layer is damaged: a field is too long")
        parts = [self._buffer[self._position :]]
        have = len(parts[0])
        while have < count:
            try:
                data = self._stream.read(1 << 18)
            except zstandard.ZstdError as error:
                raise FileSystemError(f"the index of the layer is damaged: {error}") from error
            if not data:
                break
            parts.append(data)
            have += len(data)
        self._buffer, self._position = b"".join(parts), 0
        return have >= count
