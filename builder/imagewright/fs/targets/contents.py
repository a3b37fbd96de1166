"""The data of files in a virtual root: copied ones are read from their source, to be packed and to be compared.

Reads files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import zip_longest
from typing import Protocol

from imagewright.errors import FileSystemError
from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import Entry
from imagewright.fs.targets.disk import changed_meanwhile, open_data
from imagewright.fs.targets.model import DataReader, NotVirtualError
from imagewright.fs.targets.nodes import Data, LayerData, RoundedTime, SourceData
from imagewright.fs.targets.restore import write_entry_data

_CHUNK_BYTES = 1 << 20
_UNREADABLE = "the content of a file is needed"


class SourceFiles:
    """Opens files that are copied; consecutive ones mostly share their directory, which stays open."""

    def __init__(self) -> None:
        self._directories: dict[Rootfs, DirectoryCache] = {}

    @contextmanager
    def open(self, data: SourceData) -> Iterator[int]:
        """A descriptor of a file.

        Raises:
            FileSystemError: it has been removed.
            OSError
        """
        cache = self._directories.get(data.root)
        if cache is None:
            cache = self._directories[data.root] = DirectoryCache(data.root)
        directory = cache.find(data.directory)
        if directory is None:
            raise changed_meanwhile(data.directory, "removed")
        with open_data((directory, data.name)) as fd:
            yield fd

    def close(self) -> None:
        for cache in self._directories.values():
            cache.close()
        self._directories.clear()


class SpooledFiles:
    """The files of an archive, each written to a folder of its own until it is packed: archives have another order."""

    def __init__(self, spool: Rootfs) -> None:
        self._spool = spool
        self._folder = os.fsencode(os.path.basename(tempfile.mkdtemp(dir=spool.path)))
        self._count = 0

    def add(self, entry: Entry, reader: DataReader) -> tuple[int, SourceData]:
        """Write the data of an entry; its size and data.

        Raises:
            OSError
        """
        self._count += 1
        name = b"%d" % self._count
        with open(os.path.join(os.fsencode(self._spool.path), self._folder, name), "xb") as file:
            write_entry_data(file.fileno(), reader, entry)
            info = os.fstat(file.fileno())
        return info.st_size, SourceData(self._spool, self._folder, name, info.st_ino, info.st_ctime_ns)

    def has(self, data: Data) -> bool:
        """Whether the data are those of a file of this archive."""
        return isinstance(data, SourceData) and (data.root, data.directory) == (self._spool, self._folder)


class LayerContents(Protocol):
    """What isn't known of layers without reading them: the data of files, by their SHA-256, and exact times."""

    def sha256(self, data: LayerData) -> bytes | None:
        """None where it isn't known.

        Raises:
            ImagewrightError: the layer cannot be pulled.
        """

    def mtime_ns(self, time: RoundedTime) -> int:
        """
        Raises:
            NotVirtualError: the layer has other entries than its table of contents.
            ImagewrightError: the layer cannot be pulled.
        """


class NoLayers:
    """The layers of an empty root."""

    def sha256(self, data: LayerData) -> bytes | None:
        return None

    def mtime_ns(self, time: RoundedTime) -> int:
        raise NotVirtualError("an exact time is needed")


def exact_time(mtime_ns: int, layers: LayerContents) -> int:
    """A modification time; as ``LayerContents.mtime_ns`` if it is rounded."""
    return layers.mtime_ns(mtime_ns) if isinstance(mtime_ns, RoundedTime) else mtime_ns


def same_data(one: Data, other: Data, layers: LayerContents) -> bool:
    """Whether two files of one size have the same data.

    Raises:
        NotVirtualError: they cannot be compared.
        ImagewrightError: as ``LayerContents.sha256``.
    """
    if one == other and isinstance(one, SourceData):
        return True
    files = SourceFiles()
    try:
        if isinstance(one, LayerData) or isinstance(other, LayerData):
            return _sha256(files, one, layers) == _sha256(files, other, layers)
        with _reading(files, one) as first, _reading(files, other) as second:
            return all(chunk == again for chunk, again in zip_longest(first, second))
    finally:
        files.close()


def _sha256(files: SourceFiles, data: Data, layers: LayerContents) -> bytes:
    if isinstance(data, LayerData):
        found = layers.sha256(data)
        if found is None:
            raise NotVirtualError(_UNREADABLE)
        return found
    hasher = hashlib.sha256()
    with _reading(files, data) as chunks:
        for chunk in chunks:
            hasher.update(chunk)
    return hasher.digest()


def data_of(data: Data) -> bytes:
    """The data of a small file.

    Raises:
        NotVirtualError: it cannot be read without its layer.
    """
    if isinstance(data, LayerData) and data.said is not None:
        return data.said
    files = SourceFiles()
    try:
        with _reading(files, data) as chunks:
            return b"".join(chunks)
    finally:
        files.close()


@contextmanager
def _reading(files: SourceFiles, data: Data) -> Iterator[Iterator[bytes]]:
    """The data of a file, in pieces of one size. A source counts only as it was when it was copied."""
    if not isinstance(data, SourceData):
        raise NotVirtualError(_UNREADABLE)
    try:
        with files.open(data) as fd:
            info = os.fstat(fd)
            if (info.st_ino, info.st_ctime_ns) != (data.inode, data.ctime_ns):
                raise NotVirtualError(_UNREADABLE)
            yield _chunks(fd)
    except (OSError, FileSystemError) as error:
        raise NotVirtualError(_UNREADABLE) from error


def _chunks(fd: int) -> Iterator[bytes]:
    with open(fd, "rb", closefd=False) as file:  # reads whole chunks
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
