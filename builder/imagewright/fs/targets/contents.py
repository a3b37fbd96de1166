"""The data of files of a virtual root: what is copied is read from its source, the rest from the layers that have it.

Reads files and layers; a layer once for all files of it that are asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.tar.entries import Entry
from imagewright.fs.tar.reader import TarReader, read_rest
from imagewright.fs.targets.disk import changed_meanwhile, open_data
from imagewright.fs.targets.nodes import LayerData, SourceData
from imagewright.streams import Readable

_CHUNK_BYTES = 1 << 20
OpenLayer = Callable[[int], AbstractContextManager[Readable]]  # by number, base first; the tar, verified at its end
Chunks = Iterator[bytes | memoryview]


def no_layer(number: int) -> AbstractContextManager[Readable]:
    """For a root to which no layer is applied."""
    raise AssertionError(f"no layer {number}")


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


def read_layers(
    open_layer: OpenLayer, wanted: Iterable[LayerData], consume: Callable[[LayerData, Chunks], None]
) -> None:
    """Call ``consume`` with the data of each wanted entry. Layers are read to their end, and so verified.

    Raises:
        ImagewrightError: a layer cannot be read, or is damaged.
    """
    by_layer: dict[int, set[int]] = {}
    for each in wanted:
        by_layer.setdefault(each.layer, set()).add(each.entry)
    for layer, numbers in sorted(by_layer.items()):
        with open_layer(layer) as stream:
            reader = TarReader(stream)
            for number, entry in enumerate(reader):
                if number in numbers:
                    consume(LayerData(layer, number), _expanded(reader, entry))
            read_rest(stream, "the layer")


def changed_files(open_layer: OpenLayer, pairs: Mapping[LayerData, SourceData], files: SourceFiles) -> set[LayerData]:
    """Of files in layers, those that differ from the files that replaced them, which have the same size.

    Raises:
        ImagewrightError: as ``read_layers``.
    """
    changed: set[LayerData] = set()

    def compare(old: LayerData, chunks: Chunks) -> None:
        with files.open(pairs[old]) as fd, open(fd, "rb", buffering=0, closefd=False) as file:
            if not all(_read(file, len(chunk)) == chunk for chunk in chunks):
                changed.add(old)

    read_layers(open_layer, pairs, compare)
    return changed


def same_files(one: SourceData, other: SourceData, files: SourceFiles) -> bool:
    """Whether two files that are copied have the same content."""
    with files.open(one) as first, files.open(other) as second:
        offset = 0
        while chunk := os.pread(first, _CHUNK_BYTES, offset):
            if os.pread(second, len(chunk), offset) != chunk:
                return False
            offset += len(chunk)
    return True


def _read(file: Readable, count: int) -> bytes:
    """``count`` bytes, fewer at the end."""
    data = file.read(count)
    while 0 < len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _expanded(reader: TarReader, entry: Entry) -> Chunks:
    """The data of a file, with zeros in the place of holes."""
    if entry.segments is None:
        yield from reader.chunks()
        return
    position = 0
    segments = iter(entry.segments)
    left = 0
    for chunk in reader.chunks():
        piece = memoryview(chunk)
        while piece:
            if not left:
                offset, left = next(segments)
                yield from _zeros(offset - position)
                position = offset
            part = piece[:left]
            yield part
            piece = piece[len(part) :]
            position += len(part)
            left -= len(part)
    yield from _zeros(entry.real_size - position)


def _zeros(count: int) -> Chunks:
    while count > 0:
        yield bytes(min(count, _CHUNK_BYTES))
        count -= _CHUNK_BYTES
