"""Layers that are eStargz or zstd:chunked: where their table of contents is, how it is stored, and an index made of it.

Reads ranges of the blob by the given function. Whoever has verified the manifest can verify the table: a descriptor's
annotations have its digest. It is bound to one blob, and says nothing of another one with the same diff ID.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable
from dataclasses import replace

import zstandard

from imagewright.digest import Digest, FramedHash
from imagewright.errors import FileSystemError, ImagewrightError
from imagewright.fs.layer.indexwriter import IndexWriter
from imagewright.fs.layer.toc import Stored, TableError, read_table
from imagewright.fs.tar.entries import REGULAR, Entry
from imagewright.fs.tar.reader import TarReader
from imagewright.oci.descriptor import Descriptor
from imagewright.records import dataclass

_STARGZ_DIGEST = "containerd.io/snapshot/stargz/toc.digest"
_ZSTD = (
    "io.github.containers.zstd-chunked.manifest-",
    "io.containers.zstd-chunked.manifest-",
)  # and stargz-snapshotter
_POSITION = re.compile(r"(\d{1,18}):(\d{1,18}):(\d{1,18}):1", re.ASCII)  # offset, stored length, length; 1: this form
_FOOTER_BYTES = 51  # an empty member of gzip, whose extra field has the offset of the table
_FOOTER = re.compile(rb"\x1f\x8b\x08\x04.{6}\x1a\x00SG\x16\x00([0-9a-fA-F]{16})STARGZ.{13}", re.DOTALL)
_STARGZ_NAME = b"stargz.index.json"
MAX_TABLE_BYTES = 48 << 20  # uncompressed: some 100,000 entries
_MAX_MEMBERS = 1000  # of gzip, for a small file: chunks are hardly shorter than a page
_MAX_STORED_BYTES = 24 << 20  # compressed
_MAX_WINDOW_BYTES = 8 << 20
_HEADER_BYTES = 64 << 10  # of room for headers of gzip or zstd, and for those of tar
_MAX_MEMBER_BYTES = MAX_TABLE_BYTES + _HEADER_BYTES
_TABLE = Entry(_STARGZ_NAME, REGULAR, 0, 0, 0, 0, 0)

ReadRange = Callable[[int, int], bytes]  # a range of the blob, by its offset and its length, which it returns all of


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a table is: ``limit`` is its length, or the most that it may have."""

    offset: int
    stored: int
    limit: int


def table_of(descriptor: Descriptor) -> str:
    """What identifies a layer's table of contents that can be verified, with its blob; "" if it has none."""
    if descriptor.media_type.endswith("zstd"):
        found = _zstd_annotations(descriptor)
    else:
        found = (digest,) if (digest := descriptor.annotations.get(_STARGZ_DIGEST)) is not None else ()
    if not found:
        return ""
    # The size tells where a footer is.
    return FramedHash(descriptor.media_type, str(descriptor.digest), descriptor.size, *found).hexdigest()


def _zstd_annotations(descriptor: Descriptor) -> tuple[str, ...]:
    """The digest and the position of a table; () if there is none."""
    for prefix in _ZSTD:
        digest, position = (descriptor.annotations.get(prefix + name) for name in ("checksum", "position"))
        if digest is not None and position is not None:
            return digest, position
    return ()


def index_of(descriptor: Descriptor, diff_id: Digest, read: ReadRange) -> bytes:
    """The index of a layer, made of its table, which it has by ``table_of``.

    Raises:
        TableError: it cannot be used.
        What ``read`` raises.
    """
    index = IndexWriter()
    try:
        if descriptor.media_type.endswith("zstd"):
            exact = _of_zstd(descriptor, index, read)
        else:
            exact = _of_stargz(descriptor, index, read)
    except FileSystemError as error:
        raise TableError(error.message) from error
    made = index.finish(diff_id, rounded=not exact)
    if not made:
        raise TableError("its index would be too large")
    return made


def _of_zstd(descriptor: Descriptor, index: IndexWriter, read: ReadRange) -> bool:
    annotations = _zstd_annotations(descriptor)
    if not annotations or (match := _POSITION.fullmatch(annotations[1])) is None:
        raise TableError("the annotation with its position is invalid")
    place = _Place(int(match[1]), int(match[2]), int(match[3]))
    stored = _stored_table(descriptor, place, read)
    _verify(stored, annotations[0])  # of what is stored, so that nothing else is inflated

    def small(file: Stored) -> bytes:
        if file.end is None:
            raise TableError("a small file has no end")
        return _small(descriptor, file, file.end - file.offset, read, _unzstd)

    return read_table(_unzstd(stored, place.limit), index, small)


def _of_stargz(descriptor: Descriptor, index: IndexWriter, read: ReadRange) -> bool:
    if descriptor.size < _FOOTER_BYTES:
        raise TableError("the layer is too small for one")
    end = descriptor.size - _FOOTER_BYTES
    match = _FOOTER.fullmatch(read(end, _FOOTER_BYTES))
    if match is None:
        raise TableError("the layer has no footer of eStargz")
    offset = int(match[1], 16)
    document = _document(
        _gunzip(_stored_table(descriptor, _Place(offset, end - offset, 0), read), _MAX_MEMBER_BYTES, 1)
    )
    _verify(document, descriptor.annotations[_STARGZ_DIGEST])

    def small(file: Stored) -> bytes:
        # No compressor makes data longer than its own form of stored blocks.
        return _small(descriptor, file, min(offset - file.offset, file.size + _HEADER_BYTES), read, _gunzip)

    exact = read_table(document, index, small)
    # The table is a file of the layer, too, but not in itself.
    index.add(replace(_TABLE, size=len(document), real_size=len(document)))
    return exact


def _stored_table(descriptor: Descriptor, place: _Place, read: ReadRange) -> bytes:
    if place.stored <= 0 or place.offset + place.stored > descriptor.size:
        raise TableError("its place is outside of the layer")
    if place.stored > _MAX_STORED_BYTES or place.limit > MAX_TABLE_BYTES:
        raise TableError("it is too large")
    return read(place.offset, place.stored)


def _document(member: bytes) -> bytes:
    """The table in the tar at the end of an eStargz layer, which has no other file."""
    reader = TarReader(io.BytesIO(member))
    entry = reader.next()
    if entry is None or replace(entry, size=0, real_size=0) != _TABLE:
        raise TableError("its header is not that of a table")
    document = b"".join(reader.chunks())
    if reader.next() is not None:
        raise TableError("another file follows it")
    return document


def _small(
    descriptor: Descriptor, file: Stored, length: int, read: ReadRange, unpack: Callable[[bytes, int], bytes]
) -> bytes:
    """The data of a file that an index keeps."""
    if not file.size:
        return b""
    if not 0 < length <= file.size + _HEADER_BYTES or file.offset + length > descriptor.size:
        raise TableError("the place of a small file is invalid")
    data = unpack(read(file.offset, length), file.size)
    if len(data) != file.size:
        raise TableError("a small file has another size")
    _verify(data, file.digest)
    return data


def _verify(data: bytes, digest: str) -> None:
    try:
        expected = Digest.parse(digest)
    except ImagewrightError:
        raise TableError("a digest is missing, or invalid") from None
    if not expected.is_of(data):
        raise TableError(f"what was read does not have the digest {expected}")


def _gunzip(stored: bytes, limit: int, members: int = _MAX_MEMBERS) -> bytes:
    """Up to ``limit`` bytes of the first ``members`` of a file of gzip."""
    found = bytearray()
    try:
        for _ in range(members):  # each costs a copy of the rest
            member = zlib.decompressobj(wbits=31)
            found += member.decompress(stored, limit - len(found))
            stored = member.unused_data
            if not member.eof or not stored or len(found) >= limit:
                break
    except zlib.error as error:
        raise TableError(f"it is not gzip: {error}") from error
    return bytes(found)


def _unzstd(stored: bytes, limit: int) -> bytes:
    """Up to ``limit`` bytes of frames of zstd."""
    try:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        stream = decompressor.stream_reader(stored, read_across_frames=True)
        found = bytearray()
        while len(found) < limit and (data := stream.read(min(1 << 20, limit - len(found)))):
            found += data
    except zstandard.ZstdError as error:
        raise TableError(f"it is not zstd: {error}") from error
    return bytes(found)
