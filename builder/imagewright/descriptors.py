"""Paths that mean a stream which this process was started with: ``/dev/stdin``, and what a shell writes for ``<(…)``.

No I/O but for the process's own id. Such a path is no file to look for: what it leads to need not be one, and may be read
only once.
"""

from __future__ import annotations

import os
import posixpath
import re

STANDARD_INPUT = "/dev/stdin"
STANDARD_INPUT_NAME = "standard input"
_OWN = re.compile(r"/(?:dev|proc/(self|thread-self|[0-9]+))/fd/([0-9]{1,9})")


def own_descriptor(path: str) -> int | None:
    """The descriptor of this process that a path means, None for any other path."""
    path = posixpath.normpath(path)
    if path == STANDARD_INPUT:
        return 0
    found = _OWN.fullmatch(path)
    if found is None or found[1] not in (None, "self", "thread-self", str(os.getpid())):
        return None
    return int(found[2])


def stream_name(descriptor: int, path: str) -> str:
    """What people call it."""
    return STANDARD_INPUT_NAME if descriptor == 0 else path
