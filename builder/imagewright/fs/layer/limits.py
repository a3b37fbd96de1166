"""Limits of what an archive may unpack to: a few kilobytes can name millions of directories or terabytes of holes.

No I/O.
"""

from __future__ import annotations

from imagewright.errors import Reason
from imagewright.fs.tar.entries import Entry, malformed
from imagewright.records import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits against archives made to fill disk or memory.

    ``entries``, directories that are only named by what is in them among them; ``size``, bytes on disk, holes
    included; ``paths``, bytes of all paths that are remembered while the archive is unpacked.
    """

    entries: int = 5_000_000
    size: int = 1 << 40
    paths: int = 1 << 29


class Meter:
    """Counts what an archive unpacks to. ``what`` is its name in the error.

    Raises:
        FileSystemError: from every method, reason ``LimitExceeded``.
    """

    def __init__(self, limits: Limits, what: str) -> None:
        self._limits = limits
        self._what = what
        self.entries = 0
        self.size = 0
        self._paths = 0

    def entry(self, entry: Entry) -> None:
        """Count an entry of the archive."""
        self.entries += 1
        self.size += max(entry.size, entry.real_size)
        self._paths += len(entry.name)
        self._check()

    def directory(self) -> None:
        """Count a directory that has no entry."""
        self.entries += 1
        self._check()

    def path(self, path: bytes) -> None:
        """Count a path that is remembered."""
        self._paths += len(path)
        self._check()

    def _check(self) -> None:
        limits = self._limits
        if self.entries > limits.entries or self.size > limits.size or self._paths > limits.paths:
            raise malformed(
                f"{self._what} is too large: the limits are {limits.entries} entries, {limits.size} bytes, and "
                f"{limits.paths} bytes of paths",
                Reason.LIMIT_EXCEEDED,
            )
