"""Layers of a base image on their way from the registry into the unpacker, with bounded memory.

Reads from the registry and writes temporary files. Download, inflation, hashing, and unpacking overlap: the C
libraries of the first three release the interpreter lock.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, suppress
from types import TracebackType
from typing import Self

from imagewright.digest import Digest
from imagewright.errors import Reason, RegistryError
from imagewright.records import dataclass
from imagewright.store.blobs import BlobWriter
from imagewright.streams import Readable
from imagewright.workers import Patience

_CHUNK_BYTES = 1 << 21
_CHUNKS_AHEAD = 4
_CHUNKS_TO_HASH = 4
_DOWNLOADED_BYTES = 1 << 19
_POLL_S = 0.05


class Spool:
    """A download into a file that is read while it grows: unpacking a layer begins before it is complete."""

    def __init__(self, path: str, opener: Callable[[], AbstractContextManager[Readable]]) -> None:
        self._path = path
        self._opener = opener
        self._changed = threading.Condition()
        self._written = 0
        self._ended = False
        self._stopped = False
        self._error: BaseException | None = None
        self._file: int | None = None
        self._position = 0

    def download(self) -> None:
        """Download everything, in a thread of its own. An error is raised by ``read``."""
        if self._stopped:
            return
        try:
            with open(self._path, "wb") as out, self._opener() as stream:
                while not self._stopped and (chunk := stream.read(_CHUNK_BYTES)):
                    out.write(chunk)
                    out.flush()  # counted bytes must be visible to the reader
                    with self._changed:
                        self._written += len(chunk)
                        self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 -- raised again in the thread that reads
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" at the end and after ``stop``. Raises what the download raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > self._position or self._ended or self._stopped)
            if self._written <= self._position:
                if self._error is not None:
                    raise self._error
                return b""
            available = self._written - self._position
        if self._file is None:
            self._file = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        data = os.pread(self._file, min(size if size > 0 else available, available), self._position)
        self._position += len(data)
        return data

    def keep(self, path: str) -> None:
        """Move the download to ``path`` once it is complete, and so verified. Raises what the download raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended)
        if self._error is not None:
            raise self._error
        os.rename(self._path, path)

    def stop(self) -> None:
        """End the download soon; its content is no longer needed."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def close(self) -> None:
        """Stop the download and remove the file. To be called when it has ended, or no longer to be waited for."""
        self.stop()
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if os.path.exists(self._path):
            os.unlink(self._path)


class KeptStream:
    """A download that is written to a file while it is read. It is needed again, but not so much as to fail for it."""

    def __init__(self, stream: Readable, out: BlobWriter) -> None:
        self._stream = stream
        self._out: BlobWriter | None = out

    def read(self, size: int = -1, /) -> bytes:
        """As the stream's."""
        data = self._stream.read(size)
        if self._out is not None:
            try:
                self._out.write(data)
            except OSError:
                self._out.discard()
                self._out = None
        return data

    def commit(self, digest: Digest) -> None:
        """Read the rest, which verifies the download, and keep it."""
        while self.read(_CHUNK_BYTES):
            pass
        if self._out is not None:
            self._out.commit(digest)


class _Hashing:
    """Updates a hash in a thread of its own, until the end of the context: inflating takes a core by itself."""

    def __init__(self, hasher: hashlib._Hash) -> None:
        self._hasher = hasher
        self._chunks: queue.Queue[bytes] = queue.Queue(_CHUNKS_TO_HASH)
        self._thread = threading.Thread(target=self._work, name="hash", daemon=True)

    def add(self, chunk: bytes) -> None:
        self._chunks.put(chunk)

    def _work(self) -> None:
        while chunk := self._chunks.get():
            self._hasher.update(chunk)

    def __enter__(self) -> _Hashing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._chunks.put(b"")
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a thread ends that is no longer needed: ``stop`` ends what it waits for, as far as that is possible."""

    stop: Callable[[], None]
    patience: Patience


class ReadAhead:
    """Chunks that a thread makes, a few ahead of who reads them. Also a context manager, at whose end the thread ends.

    After an exception it is waited for with patience only: it may wait for a server.

    Args:
        chunks: iterated over in the thread, and closed there.
        ahead: so many may wait to be read.
        name: the thread's.
        ending: what is done after an exception.
    """

    def __init__(self, chunks: Generator[bytes], ahead: int, name: str, ending: Ending) -> None:
        self._ending = ending
        self._made = chunks
        self._chunks: queue.Queue[bytes | BaseException] = queue.Queue(ahead)
        self._stopped = threading.Event()
        self._rest = memoryview(b"")
        self._ended = False
        self._thread = threading.Thread(target=self._produce, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopped.set()
        patience = None
        if kind is not None:
            self._ending.stop()
            patience = self._ending.patience.with_error(kind)
        while self._thread.is_alive() and (patience is None or patience.left_s()):
            with suppress(queue.Empty):
                self._chunks.get(timeout=_POLL_S)

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" at the end. Raises what was raised in the thread."""
        size = _CHUNK_BYTES if size < 0 else size
        if not self._rest and not self._ended:
            chunk = self._chunks.get()
            if isinstance(chunk, BaseException):
                self._ended = True
                raise chunk
            self._ended = not chunk
            if len(chunk) <= size:
                return chunk  # as it is: copying all of a layer once more takes a tenth of the time
            self._rest = memoryview(chunk)
        part = self._rest[:size]
        self._rest = self._rest[len(part) :]
        return bytes(part)

    def _produce(self) -> None:
        try:
            with closing(self._made) as chunks:
                for chunk in chunks:
                    self._chunks.put(chunk)
                    if self._stopped.is_set():
                        return
            self._chunks.put(b"")
        except BaseException as error:  # noqa: BLE001 -- raised again in the thread that reads
            self._chunks.put(error)


class Growing:
    """Bytes that one thread writes, all of which stay in memory until another one has read them."""

    def __init__(self) -> None:
        self._parts: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        self._ended = False

    def write(self, data: bytes) -> None:
        if data:
            self._parts.put(data)

    def end(self) -> None:
        self._parts.put(b"")

    def read(self, size: int = -1, /) -> bytes:
        """Up to ``size`` bytes, b"" at the end; waits for them."""
        if not self._rest and not self._ended:
            self._rest = self._parts.get()
            self._ended = not self._rest
        data, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        return data


class InflatedLayer(ReadAhead):
    """The uncompressed tar of one layer, inflated in a thread and hashed in another; verifies the diff ID at its end.

    Args:
        inflate: opens the stream of uncompressed bytes; called in the thread.
        diff_id: of the uncompressed layer, from the image's configuration (config.md, "Layer DiffID").
        name: the layer's, for the error.
        ending: as for ``ReadAhead``.
    """

    def __init__(
        self, inflate: Callable[[], AbstractContextManager[Readable]], diff_id: Digest, name: str, ending: Ending
    ) -> None:
        super().__init__(_verified(inflate, diff_id, name), _CHUNKS_AHEAD, "inflate", ending)


def _verified(inflate: Callable[[], AbstractContextManager[Readable]], diff_id: Digest, name: str) -> Generator[bytes]:
    hasher = diff_id.hasher()
    with inflate() as stream, _Hashing(hasher) as hashing:
        for chunk in _chunks_of(stream, _CHUNK_BYTES):
            hashing.add(chunk)
            yield chunk
    if hasher.hexdigest() != diff_id.hex:
        raise RegistryError(
            f"cannot verify layer {name}: expected diff ID {diff_id}, got {diff_id.algorithm}:{hasher.hexdigest()}",
            reason=Reason.REGISTRY_PROTOCOL_ERROR,
            hint="The image is damaged or was tampered with: push it again, or use another one.",
        )


def downloaded_ahead(stream: Readable, patience: Patience) -> ReadAhead:
    """A download in a thread of its own: it is hashed, too, and inflating takes a core by itself."""
    ending = Ending(lambda: None, patience)
    return ReadAhead(_chunks_of(stream, _DOWNLOADED_BYTES), _CHUNKS_AHEAD, "download", ending)


def _chunks_of(stream: Readable, size: int) -> Generator[bytes]:
    while chunk := stream.read(size):
        yield chunk
