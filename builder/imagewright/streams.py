"""Streams: the interface of files, downloads and decompressors, and paths that stand for a stream of this process.

No I/O. ``/dev/stdin``, and what a shell writes for ``<(…)``, is not a path to look up: it need not lead to a file, and
may be readable only once.
"""

from __future__ import annotations

import os
import posixpath
import re
from typing import Protocol

STANDARD_INPUT = "/dev/stdin"
STANDARD_INPUT_NAME = "standard input"
_OWN = re.compile(r"/(?:dev|proc/(self|thread-self|[0-9]+))/fd/([0-9]{1,9})")
_CHUNK_BYTES = 1 << 16


class Readable(Protocol):
    """``read(n)`` returns up to n bytes, b"" only at the end."""

    def read(self, size: int = -1, /) -> bytes: ...


class Writable(Protocol):
    """``write`` writes all of ``data``; its result has no meaning."""

    def write(self, data: bytes, /) -> object: ...


def read_whole(stream: Readable) -> bytes:
    """The rest of a stream that is known to be small."""
    return b"".join(iter(lambda: stream.read(_CHUNK_BYTES), b""))


def own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path stands for, None for any other path."""
    path = posixpath.normpath(path)
    if path == STANDARD_INPUT:
        return 0
    found = _OWN.fullmatch(path)
    if found is None or found[1] not in (None, "self", "thread-self", str(os.getpid())):
        return None
    return int(found[2])


def stream_name(descriptor: int, path: str) -> str:
    """The name of a descriptor in messages."""
    return STANDARD_INPUT_NAME if descriptor == 0 else path
