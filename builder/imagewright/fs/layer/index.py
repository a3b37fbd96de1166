"""The index of a layer: its entries without their data, from which a virtual root is built.

No I/O of its own. Only a layer (config.md, "Layer DiffID") can prove what its index says, so an index is trusted as far
as who made it; whatever it says, reading it takes bounded memory and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import zstandard

from imagewright.digest import Digest
from imagewright.errors import FileSystemError
from imagewright.fs.layer.capture import Capture
from imagewright.fs.layer.indexwriter import (
    END,
    MAX_KEPT_BYTES,
    RECORD,
    XATTR,
    IndexingReader,
    IndexWriter,
    head,
    packed_head,
)
from imagewright.fs.layer.limits import Limits, Meter
from imagewright.fs.layer.unpack import UnpackOptions, unpack_into
from imagewright.fs.tar import entries
from imagewright.fs.tar.entries import implausible, malformed, plausible_time
from imagewright.fs.tar.reader import TarReader
from imagewright.fs.targets.model import NotVirtualError
from imagewright.fs.targets.nodes import RoundedTime
from imagewright.fs.targets.virtual import IndexedEntry, VirtualRoot, VirtualTarget
from imagewright.streams import Readable

_TYPES = frozenset(
    {
        entries.REGULAR,
        entries.HARDLINK,
        entries.SYMLINK,
        entries.CHARACTER,
        entries.BLOCK_DEVICE,
        entries.DIRECTORY,
        entries.FIFO,
    }
)
_MAX_FIELD_BYTES = 2 << 20  # as the reader of archives limits names and attributes, with some room
_MAX_ENTRY_BYTES = MAX_KEPT_BYTES + _MAX_FIELD_BYTES  # of all fields of an entry
_TIME_BYTES = 150  # of memory for a time that is rounded, besides the entry
_XATTR_BYTES = 100  # of memory for an extended attribute, besides what it holds
_MAX_WINDOW_BYTES = 8 << 20  # of zstd's memory
_BUFFER_BYTES = 1 << 16
_LIMITS = Limits()


def make_index(
    stream: Readable,
    diff_id: Digest,
    limits: Limits = _LIMITS,
    capture: Capture | None = None,
    sink: Callable[[bytes], None] | None = None,
) -> bytes:
    """Read the entries of a layer, an uncompressed tar, and pass over their data, but for those that ``capture`` wants.

    ``sink`` is given the index in parts while it is made.

    Raises:
        FileSystemError: as ``unpack_layer``, for what the archive itself shows.
        NotVirtualError: the index would be too large.
    """
    if sink is None:
        index = IndexWriter()
    else:
        sink(packed_head(diff_id))
        index = IndexWriter(sink=sink)
    reader = IndexingReader(TarReader(stream), index)
    meter = Meter(limits, "the layer")
    number = 0
    while (entry := reader.next()) is not None:
        meter.entry(entry)
        if capture is not None:
            capture.see(number, entry, reader)
        number += 1
    made = index.finish(diff_id)
    if not made:
        raise NotVirtualError
    return made


def apply_index(root: VirtualRoot, index: bytes | Readable, diff_id: Digest) -> None:
    """Apply a layer, of which ``index`` is the index, to a virtual root. After an error the root has a part of it.

    An index that is read from a stream may still be made.

    Raises:
        FileSystemError: as ``unpack_layer``; the index is damaged, or that of another layer.
        NotVirtualError: the layer has to be unpacked on disk.
    """
    unpack_into(VirtualTarget(root, archive=diff_id), _IndexReader(index, diff_id, root.take), UnpackOptions())


def exact_times(index: bytes, right: bytes, diff_id: Digest) -> list[int] | None:
    """The modification times of a layer's entries, in order, by its index that was made of the layer itself: ``right``.

    None if ``index``, which was made of something else, has other entries, or times that differ by more than rounding.

    Raises:
        FileSystemError: ``index`` is damaged.
    """
    one, other = (_IndexReader(each, diff_id, _ignore) for each in (index, right))
    times = []
    while (entry := one.next()) is not None and (real := other.next()) is not None:
        if abs(entry.mtime_ns - real.mtime_ns) >= RoundedTime.STEP_NS or _rest(entry) != _rest(real):
            return None
        times.append(real.mtime_ns)
    return times if entry is None and other.next() is None else None


def _rest(entry: IndexedEntry) -> IndexedEntry:
    """What a table of contents has to have right; of a sparse file it need not know what is stored."""
    return replace(entry, mtime_ns=0, size=0, segments=None)


def _ignore(count: int) -> None:
    """No memory is kept."""


class _IndexReader:
    """The entries of an index. Times that are rounded are ``RoundedTime``."""

    def __init__(self, index: bytes | Readable, diff_id: Digest, take: Callable[[int], None]) -> None:
        self._account = take
        unpacked = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._stream = unpacked.stream_reader(index, read_across_frames=True)  # type: ignore[arg-type]  # read() only
        self._buffer = b""
        self._position = 0
        self._count = 0
        self._diff_id = diff_id
        exact, rounded = head(diff_id), head(diff_id, rounded=True)
        found = self._take(len(exact))
        if found not in (exact, rounded):
            raise _damaged("it is of another layer, or of another version")
        self._rounded = found == rounded

    def next(self) -> IndexedEntry | None:
        begin = self._advance(RECORD.size)
        fields = RECORD.unpack_from(self._buffer, begin)
        type_, mode, uid, gid, size, real_size, mtime_ns, major, minor, name, link, kept, xattrs = fields
        if type_ == END:
            if size != self._count or self._position < len(self._buffer) or self._fill(1):
                raise _damaged("the count of its entries is another one")
            return None
        if type_ not in _TYPES or mode > 0o7777 or mtime_ns != plausible_time(mtime_ns) or kept > MAX_KEPT_BYTES:
            raise _damaged("an entry has an invalid number")
        taken = self._allowed(name + link + max(kept, 0))
        begin = self._advance(name + link)
        middle = begin + name
        entry = IndexedEntry(self._buffer[begin:middle], type_, mode, uid, gid, size, mtime_ns)
        entry.linkname = self._buffer[middle : middle + link]
        entry.major, entry.minor = major, minor
        if why := implausible(entry):
            raise _damaged(f"an entry has {why}")
        entry.real_size = real_size
        if kept >= 0 and (kept != size or not IndexWriter.keeps(entry)):
            raise _damaged("it has data of a file that none keeps")
        entry.number = self._count
        if self._rounded:
            entry.mtime_ns = RoundedTime(mtime_ns, self._diff_id, entry.number)
        self._count += 1
        entry.kept = None if kept < 0 else self._take(kept)
        for _ in range(xattrs):
            key_bytes, value_bytes = XATTR.unpack(self._take(XATTR.size))
            taken = self._allowed(taken + XATTR.size + key_bytes + value_bytes)
            key = self._take(key_bytes)
            if not key or b"\0" in key or b"=" in key:
                raise _damaged("an extended attribute has an invalid name")
            entry.xattrs[key] = self._take(value_bytes)
        self._account(taken + xattrs * _XATTR_BYTES + (_TIME_BYTES if self._rounded else 0))
        return entry

    @staticmethod
    def _allowed(count: int) -> int:
        """Bytes of an entry that are about to be read: a small index can name gigabytes."""
        if count > _MAX_ENTRY_BYTES:
            raise _damaged("an entry is too long")
        return count

    def buffered(self) -> memoryview | None:
        """No data."""
        return None

    def chunks(self) -> Iterator[bytes | memoryview]:
        """No data."""
        return iter(())

    def _take(self, count: int) -> bytes:
        begin = self._advance(count)
        return self._buffer[begin : self._position]

    def _advance(self, count: int) -> int:
        """Where the next ``count`` bytes begin, all of which are in the buffer."""
        begin = self._position
        if begin + count > len(self._buffer):
            if not self._fill(count):
                raise _damaged("it is truncated")
            begin = 0
        self._position = begin + count
        return begin

    def _fill(self, count: int) -> bool:
        """Have at least ``count`` bytes in the buffer; False at the end."""
        parts = [self._buffer[self._position :]]
        have = len(parts[0])
        while have < count:
            try:
                data = self._stream.read(_BUFFER_BYTES)
            except zstandard.ZstdError as error:
                raise _damaged(str(error)) from error
            if not data:
                break
            parts.append(data)
            have += len(data)
        self._buffer, self._position = b"".join(parts), 0
        return have >= count


def _damaged(why: str) -> FileSystemError:
    return malformed(f"the index of the layer is damaged: {why}")
