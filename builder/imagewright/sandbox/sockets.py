"""Paths of unix sockets, which an address has little room for.

Opens folders. Called by ``sandbox.standins`` and by the engine's ssh agents.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_MAX_PATH_BYTES = 100  # sun_path has 108 (unix(7))


@contextlib.contextmanager
def reachable(path: str) -> Iterator[str]:
    """The same path, short enough for a socket's address."""
    if len(os.fsencode(path)) <= _MAX_PATH_BYTES:
        yield path
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{os.path.basename(path)}"
    finally:
        os.close(folder)
