"""What the failures of all clouds have in common, as errors.

Pure; no I/O. Called by the modules beside it.
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
    """For an SDK that isn't installed."""
    return SourceError(
        f"{what} needs a package that is not installed",
        reason=Reason.NOT_SUPPORTED,
        hint=f"Install it: pip install '.[{extra}]' in a checkout of imagewright. The executor image has it.",
    )


def not_there(what: str) -> SourceError:
    """For an object or a bucket that isn't there."""
    return SourceError(
        f"{what} is not there", reason=Reason.FILE_NOT_FOUND, hint="Check the names of the bucket and of the object."
    )


def refused(what: str, said: str, hint: str, secrets: Iterable[str] = ()) -> SourceError:
    """For a login that isn't allowed to read, or none. ``secrets`` are not shown, whoever says them."""
    return SourceError(
        f"{what} may not be read: {_line(hidden(said, secrets))}", reason=Reason.SOURCE_AUTH_FAILED, hint=hint
    )


def unreachable(what: str, said: str, secrets: Iterable[str] = ()) -> SourceError:
    """For everything that may pass."""
    return SourceError(
        f"{what} can't be fetched: {_line(hidden(said, secrets))}",
        reason=Reason.SOURCE_UNREACHABLE,
        hint="Check the endpoint, the region, the network policy and the proxy.",
    )


def _line(text: str) -> str:
    """The first line of an SDK's words, for a message."""
    first = text.strip().partition("\n")[0]
    return "".join(c if c.isprintable() else " " for c in first)[:300] or "it doesn't say why"
