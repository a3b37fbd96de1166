"""Limits the holes of sparse files that are read: a tar of a kilobyte can make a file of terabytes.

Reads the sizes of open files. Layers have no holes (OCI image-layout, layer.md), so that one is packed as zeros.
"""

from __future__ import annotations

import os

from imagewright.errors import FileSystemError, Reason
from imagewright.fs.paths import quote_path

MAX_HOLES = 64 << 30  # bytes; some minutes of zeros
_BLOCK = 512  # the unit of st_blocks: stat(2)


class Holes:
    """The bytes of holes in all files that one step reads."""

    def __init__(self, limit: int = MAX_HOLES) -> None:
        self._limit = limit
        self._bytes = 0

    def add(self, fd: int, path: bytes) -> None:
        """Count those of an open file before it is read.

        Raises:
            FileSystemError: reason ``LimitExceeded``.
        """
        info = os.fstat(fd)
        self._bytes += max(0, info.st_size - info.st_blocks * _BLOCK)
        if self._bytes > self._limit:
            raise FileSystemError(
                f"cannot read {quote_path(path)}: it has {info.st_size} bytes, most of them holes, and the limit for the "
                f"holes of all files of a step is {self._limit} bytes",
                why="too many holes",
                reason=Reason.LIMIT_EXCEEDED,
                hint="Remove the sparse file, or make it smaller: in an image its holes are zeros.",
            )
