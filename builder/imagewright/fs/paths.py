"""Root-relative paths as bytes: join, compare, check, quote for messages.

No I/O.
"""

from __future__ import annotations

import os

from imagewright.errors import FileSystemError, Reason, quoted

_MAX_PATH_BYTES = 4095  # PATH_MAX without the NUL: limits.h(0p)
TOO_LONG_HINT = "Use shorter names or fewer nested directories: Linux allows names of 255 bytes and paths of 4095."


def join(directory: bytes, name: bytes) -> bytes:
    """``name`` in ``directory``, either of which may be the root, ``b""``."""
    if not directory or not name:
        return directory or name
    return directory + b"/" + name


def is_at_or_below(path: bytes, directory: bytes) -> bool:
    return path == directory or path.startswith(directory + b"/")


def quote_path(path: bytes) -> str:
    """A root-relative path for messages: absolute and quoted; whole, so that secret values in it are recognized."""
    return f'"/{os.fsdecode(path)}"'


def quote_entry(name: bytes) -> str:
    """The name of an archive's entry for messages: absolute, quoted, printable, bounded in length."""
    return quoted("/" + name[:300].decode("utf-8", "backslashreplace").lstrip("/"), 1500)


def check_length(path: bytes) -> None:
    """Refuse a root-relative path that is too long for system calls: a layer that has it could not be unpacked.

    Raises:
        FileSystemError: reason ``LimitExceeded``.
    """
    if len(path) > _MAX_PATH_BYTES:
        raise FileSystemError(
            f'path {quote_path(path[:100])[:-1]}…" is too long: {len(path)} bytes in {path.count(b"/")} directories',
            reason=Reason.LIMIT_EXCEEDED,
            hint=TOO_LONG_HINT,
        )
