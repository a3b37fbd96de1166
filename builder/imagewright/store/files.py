"""Files that appear under their name only when they are complete.

Writes files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from imagewright.errors import ImagewrightError, Reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


def _take_the_place(temporary: str, real: str) -> None:
    try:
        os.replace(temporary, real)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A mounted file, as some of the kubelet's: it can be written, but not replaced.
        with open(temporary, "rb") as source, open(real, "wb") as target:
            shutil.copyfileobj(source, target)
        os.unlink(temporary)


def write_error(what: str, error: OSError, flag: str) -> ImagewrightError:
    """For output that cannot be written; ``flag`` is the option for its path."""
    hint = (
        f"Free space there, or use another path for {flag}."
        if error.errno in _FULL
        else (f"Use a writable path for {flag}.")
    )
    return ImagewrightError(f"cannot write {what}: {error.strerror}", reason=Reason.OUTPUT_FAILED, hint=hint)


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading. A FIFO, in a folder that others may write to, would be waited for without end.

    Raises:
        OSError: also if it is not a regular file.
    """
    file = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), "rb")  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "not a regular file", path)
    return file


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A new file that replaces ``path`` at the end, unless an error was raised; its mode is the umask's.

    If ``path`` is a symbolic link, its target is replaced. What is not a regular file (a pipe, ``/dev/stdout``), or is
    mounted (``/dev/termination-log``), is written to instead.

    Raises:
        OSError
    """
    real = os.path.realpath(path)
    if os.path.exists(real) and not os.path.isfile(real):
        with open(real, "wb") as file:
            yield file
        return
    # Not the process ID: builds in several Pods may have the same one, and write to one volume.
    temporary = f"{real}.{secrets.token_hex(6)}.partial"
    try:
        with open(temporary, "xb") as file:
            yield file
        _take_the_place(temporary, real)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
