"""Files that appear under their name only when they are whole.

Writes files. Called by ``store.layout``, ``store.archive`` and ``imagewright pin``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
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
        # A file that is mounted by itself, as the kubelet mounts some: it can be written, and not be replaced.
        with open(temporary, "rb") as source, open(real, "wb") as target:
            shutil.copyfileobj(source, target)
        os.unlink(temporary)


def write_error(what: str, error: OSError, flag: str) -> ImagewrightError:
    """For output that can't be written; ``flag`` is the option that says where it goes."""
    hint = (
        f"Free space there, or name another place with {flag}."
        if error.errno in _FULL
        else (f"Name a place that can be written with {flag}.")
    )
    return ImagewrightError(f"{what} can't be written: {error.strerror}", reason=Reason.OUTPUT_FAILED, hint=hint)


@contextmanager
def replacing(path: str) -> Iterator[BinaryIO]:
    """A new file that takes the place of ``path`` at the end, if all went well; its mode is the umask's.

    A link at ``path`` stays, what it leads to is replaced. What is no regular file (a pipe, ``/dev/stdout``), or is mounted
    there (``/dev/termination-log``), is written to.

    Raises:
        OSError
    """
    real = os.path.realpath(path)
    if os.path.exists(real) and not os.path.isfile(real):
        with open(real, "wb") as file:
            yield file
        return
    # Not the process id: builds in several Pods have the same ones, and may write to one volume.
    temporary = f"{real}.{secrets.token_hex(6)}.partial"
    try:
        with open(temporary, "xb") as file:
            yield file
        _take_the_place(temporary, real)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
