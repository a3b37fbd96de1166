"""The data of files that are copied into a virtual root, which are read from their source when they are packed.

Reads files.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imagewright.fs.rootfs.directorycache import DirectoryCache
from imagewright.fs.rootfs.root import Rootfs
from imagewright.fs.targets.disk import changed_meanwhile, open_data
from imagewright.fs.targets.nodes import SourceData


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
