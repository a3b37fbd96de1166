"""Decompresses layers and archives while they are read, with bounded memory.

No I/O of its own: reads from the stream it is given. gzip is decompressed by isal, twice as fast as by zlib;
consecutive gzip members are one stream.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable
from typing import Literal, Protocol

import zstandard
from isal import igzip_lib

from imagewright.errors import FileSystemError
from imagewright.streams import Readable

Format = Literal["none", "gzip", "zstd", "bzip2", "xz"]

_IGZIP_ERROR: type[Exception] = igzip_lib.error  # type: ignore[assignment]  # the stubs take the class for a value
_INPUT_BYTES = 512 * 1024
_FIRST_INPUT_BYTES = 1024
_MAX_WINDOW_BYTES = 128 * 1024 * 1024  # of zstd: the default maximum of its long mode
_MAX_XZ_MEMORY_BYTES = 128 * 1024 * 1024
_HINT = "Rebuild the layer or archive: it is damaged."
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_RLE_BLOCK = 1
_MAGIC: tuple[tuple[bytes, Format], ...] = (
    (b"\x1f\x8b", "gzip"),
    (_ZSTD_MAGIC, "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class PeekedStream:
    """A stream whose first bytes have been inspected."""

    def __init__(self, stream: Readable, head: bytes) -> None:
        self._stream = stream
        self._head = head

    def read(self, size: int = -1, /) -> bytes:
        if self._head:
            data, self._head = (self._head, b"") if size < 0 else (self._head[:size], self._head[size:])
            return data
        return self._stream.read(size)


def sniff(stream: Readable) -> tuple[Format, PeekedStream]:
    """The compression of a stream, by its first bytes, and the stream with these bytes restored."""
    head = b""
    while len(head) < 6 and (more := stream.read(6 - len(head))):
        head += more
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name, PeekedStream(stream, head)
    return "none", PeekedStream(stream, head)


def open_layer(stream: Readable) -> Readable:
    """The uncompressed bytes of ``stream``; ``read(n)`` returns up to n bytes, b"" at the end.

    The compression is detected from the content: media types in registries are not always right.

    Raises:
        FileSystemError: from ``read``, reason ``LayerInvalid``: damaged or truncated.
    """
    found, peeked = sniff(stream)
    return inflate(peeked, found)


def inflate(stream: Readable, found: Format) -> Readable:
    """The uncompressed bytes of a stream of the given format."""
    match found:
        case "none":
            return stream
        case "gzip":
            return _Inflater(stream, lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), "gzip")
        case "bzip2":
            return _Inflater(stream, bz2.BZ2Decompressor, "bzip2")
        case "xz":
            return _Inflater(stream, lambda: lzma.LZMADecompressor(memlimit=_MAX_XZ_MEMORY_BYTES), "xz")
        case "zstd":
            return _Zstd(stream)


class _Inflater:
    """Runs a decompressor with the interface of the bz2 module's over one or more members."""

    def __init__(self, stream: Readable, make: Callable[[], _Decompressor], name: str) -> None:
        self._stream = stream
        self._make = make
        self._name = name
        self._decompressor = make()
        self._fed = False  # whether the current member has started
        self._ended = False
        self._input = b""
        self._at = 0  # what of it has been fed
        self._step = _FIRST_INPUT_BYTES

    def read(self, size: int = -1, /) -> bytes:
        limit = size if size > 0 else 1 << 20
        while not self._ended:
            decompressor = self._decompressor
            if decompressor.eof:
                self._at -= len(decompressor.unused_data)
                self._step = _FIRST_INPUT_BYTES
                rest = b""
                while not rest and (chunk := self._more()):
                    rest = chunk.lstrip(b"\0")  # some writers pad to a block
                if not rest:
                    self._ended = True
                    break
                self._decompressor = decompressor = self._make()
                data = self._feed(rest, limit)
            elif decompressor.needs_input:
                chunk = self._more()
                if not chunk:
                    if self._fed:
                        raise FileSystemError(f"the {self._name} stream is truncated", hint=_HINT)
                    self._ended = True
                    break
                data = self._feed(chunk, limit)
            else:
                data = self._feed(b"", limit)
            if data:
                return data
        return b""

    def _more(self) -> bytes:
        """More input. The first pieces of a member are small: what follows its end is copied, and fed again."""
        if self._at == len(self._input):
            self._input, self._at = self._stream.read(_INPUT_BYTES), 0
        piece = self._input[self._at : self._at + self._step]
        self._at += len(piece)
        self._step = min(4 * self._step, _INPUT_BYTES)
        return piece

    def _feed(self, chunk: bytes, limit: int) -> bytes:
        self._fed = True
        try:
            return self._decompressor.decompress(chunk, limit)
        except (_IGZIP_ERROR, OSError, lzma.LZMAError, EOFError) as error:
            raise FileSystemError(f"cannot decompress the {self._name} stream: {error}", hint=_HINT) from error


class _Zstd:
    """zstd frames (RFC 8878), one after another."""

    def __init__(self, stream: Readable) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW_BYTES)
        self._reader = decompressor.stream_reader(
            _ZstdFrames(stream),  # type: ignore[arg-type]  # it needs read() only
            read_size=_INPUT_BYTES,
            read_across_frames=True,
        )

    def read(self, size: int = -1, /) -> bytes:
        try:
            return self._reader.read(size if size > 0 else 1 << 20)
        except zstandard.ZstdError as error:
            raise FileSystemError(f"cannot decompress the zstd stream: {error}", hint=_HINT) from error


class _ZstdFrames:
    """Passes a stream of zstd frames through, and detects truncation (RFC 8878, "Zstandard Frames").

    The library treats a truncated frame as the end of the stream. Only the sizes of frames and blocks are inspected, a
    few bytes per 128 KiB; the library checks their content.

    Raises:
        FileSystemError: from ``read``, reason ``LayerInvalid``: the stream ends within a frame.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._head = b""  # what has been read of the frame's or block's header
        self._skip = 0  # remaining bytes of the current block, or of what follows the last one
        self._in_frame = False
        self._checksum = 0  # its length after the last block

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        if data:
            self._follow(data)
        elif self._in_frame or self._head or self._skip:
            raise FileSystemError("the zstd stream is truncated", hint=_HINT)
        return data

    def _follow(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
                continue
            wanted = 3 if self._in_frame else _header_size(self._head)
            step = min(wanted - len(self._head), len(data) - position)
            self._head += data[position : position + step]
            position += step
            if self._in_frame:
                if len(self._head) == 3:
                    self._block()
            elif len(self._head) == _header_size(self._head):
                self._frame()

    def _frame(self) -> None:
        if self._head[:4] == _ZSTD_MAGIC:
            self._in_frame = True
            self._checksum = 4 if self._head[4] & 4 else 0
        else:  # a skippable frame; the library rejects anything else
            self._skip = int.from_bytes(self._head[4:8], "little")
        self._head = b""

    def _block(self) -> None:
        header = int.from_bytes(self._head, "little")
        self._head = b""
        self._skip = 1 if header >> 1 & 3 == _ZSTD_RLE_BLOCK else header >> 3
        if header & 1:
            self._in_frame = False
            self._skip += self._checksum


def _header_size(head: bytes) -> int:
    """The length of a frame's header, as far as ``head`` determines it."""
    if len(head) < 5:
        return 5
    if head[:4] != _ZSTD_MAGIC:
        return 8
    descriptor = head[4]
    single_segment = descriptor >> 5 & 1
    content_size = (single_segment, 2, 4, 8)[descriptor >> 6]
    return 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3] + content_size
