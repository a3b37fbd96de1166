"""Addresses and failures that the clouds have in common.

No I/O.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagewright.context.hiding import hidden
from imagewright.errors import Reason, SourceError, UsageError

_DEFAULT_KEY = "context.tar.gz"


def split_address(rest: str) -> tuple[str, str]:
    """Bucket and key of ``BUCKET[/KEY]``; a bucket alone means kaniko's ``context.tar.gz`` in it.

    Raises:
        UsageError: no bucket.
    """
    bucket, _, key = rest.partition("/")
    if not bucket:
        raise UsageError("the bucket's name is missing")
    return bucket, key or _DEFAULT_KEY


def missing_sdk(what: str, extra: str) -> SourceError:
    """The error for an SDK that isn't installed."""
    return SourceError(
        f"cannot fetch {what}: a Python package is not installed",
        reason=Reason.NOT_SUPPORTED,
        hint=f"Run pip install '.[{extra}]' in a checkout of imagewright, or use the executor image, which has it.",
    )


def not_there(what: str) -> SourceError:
    """The error for a missing object or bucket."""
    return SourceError(
        f"cannot fetch {what}: no such object",
        reason=Reason.FILE_NOT_FOUND,
        hint="Check the names of the bucket and of the object.",
    )


def refused(what: str, said: str, hint: str, secrets: Iterable[str] = ()) -> SourceError:
    """The error for a missing or insufficient login. ``secrets`` are masked in ``said``."""
    return SourceError(
        f"cannot fetch {what}: access denied: {_line(hidden(said, secrets))}",
        reason=Reason.SOURCE_AUTH_FAILED,
        hint=hint,
    )


def unreachable(what: str, said: str, secrets: Iterable[str] = ()) -> SourceError:
    """The error for transient failures."""
    return SourceError(
        f"cannot fetch {what}: {_line(hidden(said, secrets))}",
        reason=Reason.SOURCE_UNREACHABLE,
        hint="Check the endpoint, the region, the network policy and the proxy.",
    )


def _line(text: str) -> str:
    """The first line of an SDK's message."""
    first = text.strip().partition("\n")[0]
    return "".join(c if c.isprintable() else " " for c in first)[:300] or "no error message"
