"""SOURCE_DATE_EPOCH: the time that the image and its layers carry instead of the clock's.

No I/O. Called by ``engine.build``. Beside a number it may be ``context``, the time of the commit that is built
(Dockerfile 1.24).
"""

from __future__ import annotations

from imagewright.context.fetch import FetchedContext
from imagewright.errors import UsageError
from imagewright.plan.arguments import EPOCH

_FROM_CONTEXT = "context"


def resolve_epoch(text: str, fetched: FetchedContext) -> int | None:
    """Seconds since 1970; None without a value, or where the context has no time of its own (a folder).

    Raises:
        UsageError: when it is neither a number nor ``context``.
    """
    if not text:
        return None
    if text == _FROM_CONTEXT:
        return fetched.time_s
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 33:
        raise UsageError(
            f"{EPOCH}={text}: neither a number of seconds since 1970 nor 'context'",
            hint="git log -1 --pretty=%ct gives a good one; 'context' takes it from a git context.",
        )
    return int(text)
