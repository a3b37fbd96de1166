"""Reads tar archives by entry: ustar, GNU long names and sparse files, PAX (POSIX.1-2001) with extended attributes.

No I/O of its own: reads from the stream it is given. The standard library's ``tarfile`` takes ten times as long for a
header, and has its own rules for extraction.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache

from imagewright.errors import FileSystemError, Reason, quoted
from imagewright.fs.paths import quote_entry
from imagewright.fs.tar.entries import (
    BLOCK,
    BLOCK_DEVICE,
    CHARACTER,
    DIRECTORY,
    FIFO,
    HARDLINK,
    MAX_FILE_BYTES,
    REGULAR,
    SYMLINK,
    Entry,
    implausible,
    malformed,
    nanoseconds,
    number,
    pax_records,
    plausible_time,
    signed_sum,
)
from imagewright.streams import Readable

_BUFFER_BYTES = 1 << 21
_MAX_EXTENSION_BYTES = 1 << 20  # of all PAX headers and GNU long names of an entry, and of all global records
_MAX_SPARSE_SEGMENTS = 1 << 18
_MAX_GLOBAL_RECORDS = 100  # each is applied to each entry; git archive writes one
_MAX_TRAILING_BYTES = 64 << 20  # tar programs pad archives to a multiple of at most some MiB
_MAX_NUMBER_LINE = 32  # bytes of one number in a sparse map
_XATTR = b"SCHILY.xattr."

_TYPES = {
    b"\0": REGULAR,
    b"7": REGULAR,  # contiguous file, treated as regular
    b"S": REGULAR,  # GNU sparse
    **{t: t for t in (REGULAR, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO)},
}
_EXTENSIONS = frozenset({b"x", b"X", b"g", b"L", b"K"})
_repeated = lru_cache(256)(number)  # of fields that most entries have in common with others
_FIELDS = struct.Struct("100s8s8s8s12s12s8xc100s8s64x8s8s155s12x")


def read_rest(stream: Readable, what: str) -> None:
    """Read what follows the end of an archive, so that the whole stream is verified.

    Raises:
        FileSystemError: reason ``LimitExceeded``: it is more than the padding of any tar program.
    """
    count = 0
    while data := stream.read(_BUFFER_BYTES):
        count += len(data)
        if count > _MAX_TRAILING_BYTES:
            raise malformed(
                f"{what} goes on after the end of its tar archive: the limit is {_MAX_TRAILING_BYTES} bytes",
                reason=Reason.LIMIT_EXCEEDED,
            )


class TarReader:
    """The entries of a tar stream, in order. The data of an entry is read before the next one is requested, or skipped.

    Raises:
        FileSystemError: reason ``LayerInvalid``: not a tar archive, damaged, or truncated.
    """

    def __init__(self, stream: Readable, what: str = "the layer") -> None:
        self._stream = stream
        self._what = what
        self._buffer = b""
        self._position = 0
        self._left = 0  # of the current entry's data, padding included
        self._padding = 0
        self._global: dict[bytes, bytes] = {}
        self._extended = 0  # bytes of the current entry's extension headers

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self.next()) is not None:
            yield entry

    def next(self) -> Entry | None:
        """The next entry, None at the end (two blocks of zeros, or the end of the stream)."""
        rest = self._left + self._padding
        if rest:
            if self._position + rest <= len(self._buffer):
                self._position += rest
            else:
                self._skip(rest)
            self._left = self._padding = 0
        pax: dict[bytes, bytes] = dict(self._global) if self._global else {}
        sparse_pairs: list[tuple[bytes, bytes]] = []
        long_name = long_link = b""
        self._extended = 0
        while True:
            header = self._header()
            if header is None:
                return None
            kind = header[156:157]
            if kind in _EXTENSIONS:
                data = self._extension(header)
                if kind == b"L":
                    long_name = data.rstrip(b"\0")
                elif kind == b"K":
                    long_link = data.rstrip(b"\0")
                else:
                    records = pax_records(data, self._what)
                    if kind == b"g":
                        self._add_global(records)
                        pax.update(records)
                    else:
                        pax.update(records)
                        if b"GNU.sparse." in data:
                            sparse_pairs = [r for r in records if r[0].startswith(b"GNU.sparse.")]
                continue
            return self._entry(header, pax, sparse_pairs, (long_name, long_link))

    def buffered(self) -> memoryview | None:
        """The stored data of the entry from ``next``, if all of it is in memory, as for most files."""
        begin = self._position
        end = begin + self._left
        if end > len(self._buffer):
            return None
        self._position = end
        self._left = 0
        return memoryview(self._buffer)[begin:end]

    def chunks(self) -> Iterator[bytes | memoryview]:
        """The stored data of the entry from ``next``, in chunks of at most 2 MiB."""
        while self._left:
            available = len(self._buffer) - self._position
            if available:
                piece = memoryview(self._buffer)[self._position : self._position + min(available, self._left)]
                self._position += len(piece)
                self._left -= len(piece)
                yield piece
            else:
                data = self._stream.read(min(_BUFFER_BYTES, self._left))
                if not data:
                    raise self._cut_off()
                self._left -= len(data)
                yield data

    # --- the stream

    def _header(self) -> bytes | None:
        position = self._position
        block: bytes | None = self._buffer[position : position + BLOCK]
        if block and len(block) == BLOCK:
            self._position = position + BLOCK
        elif (block := self._take(BLOCK, at_end=True)) is None:
            return None
        if not block[0] and not any(block):
            following = self._take(BLOCK, at_end=True)
            if following is None or not any(following):
                return None
            block = following
        field_ = block[148:156]
        try:
            stored = int(field_.strip(b" \0") or b"0", 8)
        except ValueError:
            stored = -1
        # Adler-32's low half is 1 + the sum of the bytes, modulo 65521: many times faster than sum().
        if ((zlib.adler32(block) & 0xFFFF) - sum(field_) + 255 - stored) % 65521 and stored != signed_sum(block):
            raise malformed(f"{self._what} is not a tar archive, or is damaged: header checksum mismatch")
        return block

    def _take(self, count: int, *, at_end: bool = False) -> bytes | None:
        """Exactly ``count`` bytes; None at the end of the stream if ``at_end`` is set."""
        position = self._position
        if len(self._buffer) - position >= count:
            self._position = position + count
            return self._buffer[position : position + count]
        parts = [self._buffer[position:]]
        have = len(parts[0])
        while have < count:
            data = self._stream.read(max(_BUFFER_BYTES, count - have))
            if not data:
                if at_end and not have:
                    self._buffer, self._position = b"", 0
                    return None
                raise self._cut_off()
            parts.append(data)
            have += len(data)
        self._buffer = b"".join(parts)
        self._position = count
        return self._buffer[:count]

    def _skip(self, count: int) -> None:
        while count:
            available = len(self._buffer) - self._position
            if available >= count:
                self._position += count
                return
            count -= available
            self._buffer, self._position = self._stream.read(_BUFFER_BYTES), 0
            if not self._buffer:
                raise self._cut_off()

    def _extension(self, header: bytes) -> bytes:
        size = number(header[124:136], self._what)
        self._extended += size + BLOCK
        if size < 0 or self._extended > _MAX_EXTENSION_BYTES + BLOCK:
            raise malformed(
                f"{self._what} has an entry with {self._extended - BLOCK} bytes of extended headers: "
                f"the limit is {_MAX_EXTENSION_BYTES}",
                reason=Reason.LIMIT_EXCEEDED,
            )
        padded = self._take(size + -size % BLOCK) or b""
        return padded[:size]

    def _add_global(self, records: list[tuple[bytes, bytes]]) -> None:
        self._global.update(records)
        size = sum(len(key) + len(value) for key, value in self._global.items())
        if len(self._global) > _MAX_GLOBAL_RECORDS or size > _MAX_EXTENSION_BYTES:
            raise malformed(
                f"{self._what} has too many global PAX records: the limits are {_MAX_GLOBAL_RECORDS} records and "
                f"{_MAX_EXTENSION_BYTES} bytes",
                reason=Reason.LIMIT_EXCEEDED,
            )

    def _cut_off(self) -> FileSystemError:
        return malformed(f"{self._what} is truncated: unexpected end of the tar archive")

    # --- the entry

    def _entry(
        self,
        header: bytes,
        pax: dict[bytes, bytes],
        sparse_pairs: list[tuple[bytes, bytes]],
        long_names: tuple[bytes, bytes],
    ) -> Entry:
        what = self._what
        name, mode, uid, gid, size, mtime, kind, link, magic, major, minor, prefix = _FIELDS.unpack(header)
        name = name.partition(b"\0")[0]
        if magic.startswith(b"ustar\0") and prefix[0]:
            name = prefix.partition(b"\0")[0] + b"/" + name
        type_ = _TYPES.get(kind)
        if type_ is None:
            raise FileSystemError(
                f"{what} has an entry of unsupported type {quoted(kind.decode('latin-1'))}: {quote_entry(name)}",
                hint="Write it with a common tar program.",
            )
        name = long_names[0] or name
        linkname = long_names[1] or (link.partition(b"\0")[0] if link[0] else b"")
        entry = Entry(
            name,
            type_,
            _repeated(mode, what) & 0o7777,
            _repeated(uid, what),
            _repeated(gid, what),
            number(size, what),
            _repeated(mtime, what) * 1_000_000_000,
            linkname,
        )
        if type_ in (CHARACTER, BLOCK_DEVICE):
            entry.major, entry.minor = number(major, what), number(minor, what)
        if pax:
            self._apply(entry, pax)
        if type_ == REGULAR and name.endswith(b"/") and kind in (b"\0", b"0") and not magic.startswith(b"ustar"):
            entry.type = DIRECTORY  # pre-POSIX tar programs mark directories this way
        if entry.type != REGULAR:
            entry.size = 0  # a hard link's may be that of its target; only regular files have data
        self._check(entry)
        self._left, self._padding = entry.size, -entry.size % BLOCK
        entry.real_size = entry.size
        if kind == b"S":
            self._old_sparse(entry, header)
        elif sparse_pairs and entry.type == REGULAR:
            self._pax_sparse(entry, pax, sparse_pairs)
        return entry

    def _check(self, entry: Entry) -> None:
        """Reject numbers that no system call would accept, before Python fails on them later."""
        if why := implausible(entry):
            raise malformed(f"{self._what} has an entry with {why}: {quote_entry(entry.name)}")
        entry.mtime_ns = plausible_time(entry.mtime_ns)

    def _apply(self, entry: Entry, pax: dict[bytes, bytes]) -> None:
        for key, value in pax.items():
            try:
                if not value and not key.startswith(_XATTR):
                    continue  # an empty value cancels a record
                if key == b"path":
                    entry.name = value
                elif key == b"linkpath":
                    entry.linkname = value
                elif key == b"size":
                    entry.size = int(value)
                elif key == b"uid":
                    entry.uid = int(value)
                elif key == b"gid":
                    entry.gid = int(value)
                elif key == b"mtime":
                    entry.mtime_ns = nanoseconds(value)
                elif key.startswith(_XATTR):
                    name = key[len(_XATTR) :]
                    if not name or b"\0" in name:
                        raise malformed(f"{self._what} has an extended attribute with an invalid name")
                    entry.xattrs[name] = value
            except ValueError:
                raise malformed(
                    f'{self._what} has an invalid number in the PAX record "{key[:50].decode("utf-8", "replace")}"'
                ) from None

    def _old_sparse(self, entry: Entry, header: bytes) -> None:
        """GNU's old format: segments at the end of the header and in the blocks after it."""
        segments: list[tuple[int, int]] = []
        block, offset, count, flag = header, 386, 4, 482
        entry.real_size = number(header[483:495], self._what)
        while True:
            for index in range(count):
                at = offset + 24 * index
                if not block[at]:
                    break
                segments.append((number(block[at : at + 12], self._what), number(block[at + 12 : at + 24], self._what)))
            if not block[flag]:
                break
            if len(segments) > _MAX_SPARSE_SEGMENTS:
                raise self._too_sparse()
            block, offset, count, flag = self._take(BLOCK) or b"", 0, 21, 504
        self._set_segments(entry, segments)

    def _pax_sparse(self, entry: Entry, pax: dict[bytes, bytes], pairs: list[tuple[bytes, bytes]]) -> None:
        """GNU's PAX formats 0.0 (pairs of records), 0.1 (one record) and 1.0 (a map in front of the data)."""
        try:
            if b"GNU.sparse.name" in pax:
                entry.name = pax[b"GNU.sparse.name"]
            if pax.get(b"GNU.sparse.major") == b"1":
                entry.real_size = int(pax[b"GNU.sparse.realsize"])
                numbers = self._sparse_map()
            elif b"GNU.sparse.map" in pax:
                entry.real_size = int(pax[b"GNU.sparse.size"])
                numbers = [int(n) for n in pax[b"GNU.sparse.map"].split(b",") if n]
            elif b"GNU.sparse.size" in pax:
                entry.real_size = int(pax[b"GNU.sparse.size"])
                keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
                numbers = [int(value) for key, value in pairs if key in keys]
            else:
                return
        except (ValueError, KeyError):
            raise malformed(f"{self._what} has a sparse file with an invalid map") from None
        if len(numbers) % 2:
            raise malformed(f"{self._what} has a sparse file with an invalid map: odd count of numbers")
        self._set_segments(entry, list(zip(numbers[::2], numbers[1::2], strict=True)))

    def _sparse_map(self) -> list[int]:
        """Format 1.0, in the stored data: decimal numbers in lines, the count of pairs first, padded to a block."""
        text = b""
        numbers: list[int] = []
        wanted = 1
        while len(numbers) < wanted:
            while b"\n" not in text:
                if len(text) > _MAX_NUMBER_LINE:
                    raise ValueError
                if self._left < BLOCK:
                    raise self._cut_off()
                text += self._take(BLOCK) or b""
                self._left -= BLOCK
            line, _, text = text.partition(b"\n")
            numbers.append(int(line[: _MAX_NUMBER_LINE + 1]))
            if len(numbers) == 1:
                wanted = 1 + 2 * numbers[0]
                if numbers[0] > _MAX_SPARSE_SEGMENTS:
                    raise self._too_sparse()
        return numbers[1:]

    def _set_segments(self, entry: Entry, segments: list[tuple[int, int]]) -> None:
        end = 0
        if not 0 <= entry.real_size <= MAX_FILE_BYTES:
            raise malformed(f"{self._what} has a sparse file with a size of {entry.real_size} bytes")
        for offset, length in segments:
            if offset < end or length < 0 or offset + length > entry.real_size:
                raise malformed(
                    f"{self._what} has a sparse file with an invalid map: segments overlap or exceed its size"
                )
            end = offset + length
        if sum(length for _, length in segments) != self._left:
            raise malformed(f"{self._what} has a sparse file with an invalid map: it differs in length from the data")
        entry.segments = tuple(s for s in segments if s[1])

    def _too_sparse(self) -> FileSystemError:
        return malformed(
            f"{self._what} has a sparse file with too many segments: the limit is {_MAX_SPARSE_SEGMENTS}",
            reason=Reason.LIMIT_EXCEEDED,
        )
