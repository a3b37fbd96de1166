"""The sink for the tar of a new layer: hashes, compresses, hashes again and writes it, in one pass.

Writes to the stream it is given. A second thread compresses while the first reads and hashes.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import zstandard
from isal import isal_zlib

from imagewright.digest import Digest
from imagewright.oci.mediatypes import Compression
from imagewright.records import dataclass
from imagewright.streams import Writable

_CHUNK_BYTES = 1 << 20
_BUFFERS = 6
_PIECE_BYTES = 1 << 17
# Levels 0 to 2 of isal give the same bytes on every x86 generation; level 3 does not.
_GZIP_LEVEL = 1
_ISAL_LEVELS = range(3)  # above them zlib: slow, with the same bytes wherever its version is the same
_ZSTD_LEVEL = 3


@dataclass(frozen=True, slots=True)
class PackOptions:
    """How a layer is packed.

    ``level``: of the compressor (gzip 0 to 9, zstd 1 to 22), None for our default. ``clamp_mtime_s``: upper bound of
    modification times (SOURCE_DATE_EPOCH).
    """

    compression: Compression = "gzip"
    level: int | None = None
    clamp_mtime_s: int | None = None

    @property
    def mtime_limit_ns(self) -> int | None:
        return None if self.clamp_mtime_s is None else self.clamp_mtime_s * 1_000_000_000


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """``diff_id`` and ``raw_size`` (bytes) are those of the tar, ``digest`` and ``size`` of the compressed layer."""

    diff_id: Digest
    digest: Digest
    size: int
    raw_size: int


class LayerSink:
    """Hashes the tar, and passes it to a thread that compresses it, hashes the result and writes it.

    ``around`` is entered in that thread, to time it.
    """

    def __init__(
        self, out: Writable, options: PackOptions, around: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._out = out
        self._around = around
        self._compressor = _compressor(options)
        self._raw = hashlib.sha256()
        self._stored = hashlib.sha256()
        self._raw_size = self._size = 0
        # A fixed set of buffers circulates between the two threads: memory does not depend on the layer.
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(_BUFFERS):
            self._free.put(bytearray(_CHUNK_BYTES))
        self._buffer = self._free.get()
        self._used = 0
        self._chunks: queue.SimpleQueue[tuple[bytearray, int] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="compress", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        """Append bytes of the tar."""
        end = self._used + len(data)
        if end < _CHUNK_BYTES:
            self._buffer[self._used : end] = data
            self._used = end
            return
        position = 0
        while position < len(data):
            count = min(_CHUNK_BYTES - self._used, len(data) - position)
            self._buffer[self._used : self._used + count] = data[position : position + count]
            position += count
            self._added(count)

    def write_from(self, fd: int, count: int) -> int:
        """Append ``count`` bytes read from ``fd``; returns how many were read, fewer only if the file ends."""
        left = count
        while left:
            room = memoryview(self._buffer)[self._used : self._used + min(_CHUNK_BYTES - self._used, left)]
            got = os.readv(fd, [room])
            room.release()
            if not got:
                break
            left -= got
            self._added(got)
        return count - left

    def finish(self) -> PackedLayer:
        self._flush()
        self.stop()
        if self._error is not None:
            raise self._error
        return PackedLayer(
            Digest("sha256", self._raw.hexdigest()),
            Digest("sha256", self._stored.hexdigest()),
            self._size,
            self._raw_size,
        )

    def stop(self) -> None:
        """Stop the thread; may be called again."""
        if self._thread.is_alive():
            self._chunks.put(None)
            self._thread.join()

    def _added(self, count: int) -> None:
        self._used += count
        if self._used == _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._error is not None:
            raise self._error
        self._raw.update(memoryview(self._buffer)[: self._used])
        self._raw_size += self._used
        self._chunks.put((self._buffer, self._used))
        self._buffer, self._used = self._free.get(), 0

    def _work(self) -> None:
        with self._around():
            while (chunk := self._chunks.get()) is not None:
                self._guarded(self._compress, *chunk)
                self._free.put(chunk[0])
            self._guarded(lambda: self._emit(self._compressor.flush()))

    def _guarded(self, action: Callable[..., None], *arguments: object) -> None:
        if self._error is None:
            try:
                action(*arguments)
            except BaseException as error:  # noqa: BLE001 -- raised again in the thread that packs
                self._error = error

    def _compress(self, buffer: bytearray, used: int) -> None:
        # Small pieces: for large ones a compressor would allocate hundreds of MiB again and again.
        with memoryview(buffer) as view:
            for start in range(0, used, _PIECE_BYTES):
                self._emit(self._compressor.compress(view[start : min(start + _PIECE_BYTES, used)]))

    def _emit(self, data: bytes) -> None:
        if data:
            self._stored.update(data)
            self._size += len(data)
            self._out.write(data)


class _Compressor(Protocol):
    def compress(self, data: memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Stored:
    """No compression."""

    def compress(self, data: memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def _compressor(options: PackOptions) -> _Compressor:
    match options.compression:
        case "gzip":
            level = _GZIP_LEVEL if options.level is None else options.level
            library = isal_zlib if level in _ISAL_LEVELS else zlib
            compressor: _Compressor = library.compressobj(level, library.DEFLATED, 31)  # 31: gzip, without a time
            return compressor
        case "zstd":
            level = _ZSTD_LEVEL if options.level is None else options.level
            # One thread: more would give different bytes.
            return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
        case _:
            return _Stored()
