"""What a mounted Secret says of a bucket's login, and what the failures of all clouds have in common.

Reads small files. Called by the modules beside it.
"""

from __future__ import annotations

import os

from imagewright.errors import Reason, SourceError

_MAX_BYTES = 1 << 20


def read_secret(folder: str) -> dict[str, str]:
    """The keys of a mounted Secret with their values; empty without a folder.

    Raises:
        SourceError: a file can't be read, or is no text.
    """
    if not folder:
        return {}
    values = {}
    try:
        for name in sorted(os.listdir(folder)):
            path = os.path.join(folder, name)
            if not name.startswith("..") and os.path.isfile(path):
                with open(path, encoding="utf-8") as file:
                    values[name] = file.read(_MAX_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(
            f"the login for the context can't be read in {folder}: {getattr(error, 'strerror', None) or 'it is no text'}",
            hint="It is a mounted Secret, a file for each key.",
        ) from error
    return values


def missing_sdk(what: str, extra: str) -> SourceError:
    """For an SDK that isn't installed."""
    return SourceError(
        f"{what} needs a package that is not installed",
        reason=Reason.NOT_SUPPORTED,
        hint=f"Install it: pip install 'imagewright[{extra}]'. The executor image has it.",
    )


def not_there(what: str) -> SourceError:
    """For an object or a bucket that isn't there."""
    return SourceError(
        f"{what} is not there", reason=Reason.FILE_NOT_FOUND, hint="Check the names of the bucket and of the object."
    )


def refused(what: str, said: str, hint: str) -> SourceError:
    """For a login that isn't allowed to read, or none."""
    return SourceError(f"{what} may not be read: {line(said)}", reason=Reason.SOURCE_AUTH_FAILED, hint=hint)


def unreachable(what: str, said: str) -> SourceError:
    """For everything that may pass."""
    return SourceError(
        f"{what} can't be fetched: {line(said)}",
        reason=Reason.SOURCE_UNREACHABLE,
        hint="Check the endpoint, the network policy and the proxy.",
    )


def line(text: str) -> str:
    """The first line of an SDK's words, for a message."""
    first = text.strip().partition("\n")[0]
    return "".join(c if c.isprintable() else " " for c in first)[:300] or "it doesn't say why"
