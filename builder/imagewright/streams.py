"""What parts ask of the streams that they are given: a file, a download and an inflating reader all have it.

No I/O. Used by ``fs``, ``registry``, ``store`` and ``engine``, none of which need know the others' classes.
"""

from __future__ import annotations

from typing import Protocol

_CHUNK_BYTES = 1 << 16


class Readable(Protocol):
    """``read(n)`` gives up to n bytes, b"" at the end alone."""

    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    """``write`` takes all of ``data``; what it returns says nothing."""

    def write(self, data: bytes, /) -> object: ...


def read_whole(stream: Readable) -> bytes:
    """All that is left of a stream; for what is known to be small."""
    return b"".join(iter(lambda: stream.read(_CHUNK_BYTES), b""))
