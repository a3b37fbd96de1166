"""The Secret that is mounted for a source: one file per key.

Reads small files.
"""

from __future__ import annotations

import os

from imagewright.contract.sources import LoginSource, kind_of
from imagewright.errors import SourceError

_MAX_BYTES = 1 << 20


def read_secret(source: LoginSource) -> dict[str, bytes]:
    """The keys of the source's kind that its Secret has, with their values; empty where it has no Secret.

    Raises:
        SourceError: with the kind's ``auth_reason``: a key can't be read, or the Secret has none of them.
    """
    folder, kind = source.credentials_dir, kind_of(source)
    if not folder:
        return {}
    keys, reason = kind.secret_keys, kind.auth_reason
    try:
        values = {key: value for key in keys if (value := _read(os.path.join(folder, key))) is not None}
        there = [name for name in sorted(os.listdir(folder)) if not name.startswith("..")]
    except OSError as error:
        raise SourceError(
            f"cannot read the mounted Secret {error.filename}: {error.strerror}",
            reason=reason,
            hint="Let the user that the build runs as read the mounted Secret.",
        ) from error
    if not values:
        raise SourceError(
            f"the Secret mounted at {folder} has none of the keys {', '.join(keys)}; it has {', '.join(there) or 'no keys'}",
            reason=reason,
            hint="See docs/contexts.md for the keys that each kind of source takes.",
        )
    return values


def read_login(source: LoginSource) -> dict[str, str]:
    """Like ``read_secret``, as text without surrounding white space, which Secrets made from files have.

    Raises:
        SourceError: as ``read_secret``; a value is not text.
    """
    try:
        return {key: value.decode().strip() for key, value in read_secret(source).items()}
    except UnicodeDecodeError as error:
        raise SourceError(
            f"cannot read the Secret mounted at {source.credentials_dir}: a value is not text",
            reason=kind_of(source).auth_reason,
            hint="Pass the values to kubectl create secret as they are, not in base64.",
        ) from error


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
