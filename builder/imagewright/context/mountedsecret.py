"""A Secret that is mounted for a context: a file for each key.

Reads small files. Called by the modules that need a login: git's, an address's, a bucket's.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from imagewright.errors import Reason, SourceError

_MAX_BYTES = 1 << 20


def read_secret(folder: str, keys: Sequence[str], reason: Reason = Reason.SOURCE_AUTH_FAILED) -> dict[str, bytes]:
    """Those of ``keys`` that are there, with their values; empty where ``folder`` is ``""``.

    Raises:
        SourceError: with ``reason``: a key can't be read, or none of them is there, which is a Secret for something else.
    """
    if not folder:
        return {}
    try:
        values = {key: value for key in keys if (value := _read(os.path.join(folder, key))) is not None}
        there = [name for name in sorted(os.listdir(folder)) if not name.startswith("..")]
    except OSError as error:
        raise SourceError(
            f"{error.filename} can't be read: {error.strerror}",
            reason=reason,
            hint="It is a mounted Secret, a file for each key, which the user that the build runs as must be able to read.",
        ) from error
    if not values:
        raise SourceError(
            f"the Secret at {folder} has none of the keys {', '.join(keys)}; it has {', '.join(there) or 'no key at all'}",
            reason=reason,
            hint="docs/contexts.md says which keys are read for which source.",
        )
    return values


def read_login(folder: str, keys: Sequence[str]) -> dict[str, str]:
    """Like ``read_secret``, of text; without space at both ends, which Secrets made from files have.

    Raises:
        SourceError: what ``read_secret`` raises, and for a key that is no text.
    """
    try:
        return {key: value.decode().strip() for key, value in read_secret(folder, keys).items()}
    except UnicodeDecodeError as error:
        raise SourceError(
            f"the Secret at {folder} holds a value that is no text",
            reason=Reason.SOURCE_AUTH_FAILED,
            hint="kubectl create secret takes values as they are: no base64 is needed there.",
        ) from error


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
