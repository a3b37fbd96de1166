"""Changes become a layer: one deterministic tar, hashed, compressed and hashed again while it is written.

Reads the root file system and writes to the stream it is given. Called by the engine after each step
(layer.md, "Creating"). A second thread compresses while the first reads and hashes; neither holds more than some MiB.
"""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import zstandard
from isal import isal_zlib

from imagewright.digest import Digest
from imagewright.errors import FileSystemError
from imagewright.fs import tarheader, tarwriter
from imagewright.fs.changes import Changes
from imagewright.fs.fileops import proc_path, read_xattrs
from imagewright.fs.places import Places
from imagewright.fs.rootfs import Rootfs, explain
from imagewright.fs.tarheader import Entry
from imagewright.oci.mediatypes import Compression

_CHUNK_BYTES = 1 << 20
_CHUNKS_AHEAD = 8
# isal's levels 0 to 2 give the same bytes on every x86 generation; level 3 does not.
_GZIP_LEVEL = 1
_ZSTD_LEVEL = 3


class Writable(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclass(frozen=True, slots=True)
class PackOptions:
    """``level`` is the compressor's, None for ours; ``clamp_mtime_s`` bounds modification times (SOURCE_DATE_EPOCH)."""

    compression: Compression = "gzip"
    level: int | None = None
    clamp_mtime_s: int | None = None


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """``diff_id`` is of the tar, ``digest`` of what was written; sizes in bytes, of what was written and of the tar."""

    diff_id: Digest
    digest: Digest
    size: int
    raw_size: int


def pack_layer(rootfs: Rootfs, changes: Changes, out: Writable, options: PackOptions = PackOptions()) -> PackedLayer:
    """Write the layer with these changes, their parent folders included.

    Raises:
        FileSystemError: reason ``DiskFull`` among others.
    """
    sink = _Sink(out, options)
    try:
        _Packer(rootfs, sink, options).run(changes)
        return sink.finish()
    except OSError as error:
        raise explain(error, "packing a layer") from error
    finally:
        sink.stop()


class _Packer:
    def __init__(self, rootfs: Rootfs, sink: _Sink, options: PackOptions) -> None:
        self._rootfs = rootfs
        self._sink = sink
        self._clamp_ns = None if options.clamp_mtime_s is None else options.clamp_mtime_s * 1_000_000_000
        self._places = Places(rootfs)
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self, changes: Changes) -> None:
        try:
            for path, removed in _in_order(changes):
                if self._rootfs.is_excluded(path):
                    continue
                if removed:
                    self._whiteout(path)
                else:
                    self._add(path)
        finally:
            self._places.close()
        self._sink.write(tarwriter.END)

    def _whiteout(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        marker = (parent + b"/" if parent else b"") + b".wh." + name
        self._sink.write(tarwriter.header(Entry(marker, tarheader.REGULAR, 0, 0, 0, 0, 0)))

    def _add(self, path: bytes) -> None:
        parent, _, name = path.rpartition(b"/")
        directory = self._places.existing(parent)
        if directory is None:
            raise FileSystemError(f"/{os.fsdecode(path)} vanished while its layer was being packed")
        info = os.stat(name, dir_fd=directory, follow_symlinks=False)
        mtime_ns = info.st_mtime_ns if self._clamp_ns is None else min(info.st_mtime_ns, self._clamp_ns)
        entry = Entry(path, tarheader.REGULAR, stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, 0, mtime_ns)
        kind = stat.S_IFMT(info.st_mode)
        if kind != stat.S_IFDIR and info.st_nlink > 1:
            key = (info.st_dev, info.st_ino)
            first = self._links.setdefault(key, path)
            if first is not path:
                entry.type, entry.linkname = tarheader.HARDLINK, first
                self._sink.write(tarwriter.header(entry))
                return
        if kind == stat.S_IFREG:
            self._file(entry, directory, name)
            return
        if kind == stat.S_IFDIR:
            entry.type = tarheader.DIRECTORY
        elif kind == stat.S_IFLNK:
            entry.type, entry.linkname, entry.mode = tarheader.SYMLINK, os.readlink(name, dir_fd=directory), 0o777
        elif kind == stat.S_IFIFO:
            entry.type = tarheader.FIFO
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry.type = tarheader.CHARACTER if kind == stat.S_IFCHR else tarheader.BLOCK_DEVICE
            entry.major, entry.minor = os.major(info.st_rdev), os.minor(info.st_rdev)
        else:
            return  # a socket: nothing listens on it in another container, and tar has no type for it
        self._set_xattrs(entry, proc_path((directory, name)))
        self._sink.write(tarwriter.header(entry))

    def _file(self, entry: Entry, directory: int, name: bytes) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        try:
            size = entry.size = os.fstat(fd).st_size
            self._set_xattrs(entry, fd)
            self._sink.write(tarwriter.header(entry))
            left = size
            while left:
                data = os.read(fd, min(_CHUNK_BYTES, left))
                if not data:
                    raise FileSystemError(f"/{os.fsdecode(entry.name)} shrank while its layer was being packed")
                self._sink.write(data)
                left -= len(data)
            if size % tarheader.BLOCK:
                self._sink.write(tarwriter.padding(size))
        finally:
            os.close(fd)

    def _set_xattrs(self, entry: Entry, target: int | bytes) -> None:
        entry.xattrs = {os.fsencode(name): value for name, value in read_xattrs(target).items()}


def _in_order(changes: Changes) -> Iterator[tuple[bytes, bool]]:
    """Every path once, parents before what is in them, bytewise by component; whether it is a whiteout."""
    paths: dict[bytes, bool] = {}
    for removed, group in ((False, changes.written), (True, changes.removed)):
        for path in group:
            above = path
            while (above := above.rpartition(b"/")[0]) and above not in paths:
                paths[above] = False
            paths[path] = removed
    for path in sorted(paths, key=lambda p: p.split(b"/")):
        yield path, paths[path]


class _Sink:
    """Hashes what is written, hands it to a thread that compresses, hashes again and writes out."""

    def __init__(self, out: Writable, options: PackOptions) -> None:
        self._out = out
        self._compressor = _compressor(options)
        self._raw = hashlib.sha256()
        self._stored = hashlib.sha256()
        self._raw_size = self._size = 0
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_CHUNKS_AHEAD)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="compress", daemon=True)
        self._thread.start()

    def write(self, data: bytes) -> None:
        self._pending.append(data)
        self._pending_bytes += len(data)
        if self._pending_bytes >= _CHUNK_BYTES:
            self._flush()

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
        """End the thread; harmless when it has ended."""
        if self._thread.is_alive():
            self._chunks.put(None)
            self._thread.join()

    def _flush(self) -> None:
        if self._error is not None:
            raise self._error
        chunk = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._raw.update(chunk)
        self._raw_size += len(chunk)
        self._chunks.put(chunk)

    def _work(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._error is None:
                self._guard(lambda data=chunk: self._emit(self._compressor.compress(data)))
        if self._error is None:
            self._guard(lambda: self._emit(self._compressor.flush()))

    def _guard(self, action: object) -> None:
        assert callable(action)
        try:
            action()
        except BaseException as error:  # noqa: BLE001 -- carried over to the thread that packs
            self._error = error

    def _emit(self, data: bytes) -> None:
        if data:
            self._stored.update(data)
            self._size += len(data)
            self._out.write(data)


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Stored:
    """No compression."""

    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(options: PackOptions) -> _Compressor:
    match options.compression:
        case "gzip":
            level = _GZIP_LEVEL if options.level is None else options.level
            compressor: _Compressor = isal_zlib.compressobj(level, isal_zlib.DEFLATED, 31)  # 31: gzip, no time in it
            return compressor
        case "zstd":
            level = _ZSTD_LEVEL if options.level is None else options.level
            # One thread: more give other bytes.
            return zstandard.ZstdCompressor(level=level, write_checksum=True).compressobj()
        case _:
            return _Stored()
