"""SOURCE_DATE_EPOCH: the time that the image and its layers carry instead of the clock's.

Called by ``engine.build``. Beside a number it may be ``context``, the time of the commit that is built, or the name of a
stage with one remote ADD, the time of what is added, which is asked for (Dockerfile 1.24).
"""

from __future__ import annotations

from collections.abc import Callable

from imagewright.context.job import FetchedContext
from imagewright.contract.request import Timestamps
from imagewright.engine.remote import Remotes
from imagewright.errors import ImagewrightError, UsageError
from imagewright.plan.arguments import EPOCH
from imagewright.plan.epoch import EpochSource

_FROM_CONTEXT = "context"
# What stands for SOURCE_DATE_EPOCH where none is given.
EPOCH_OF = {Timestamps.BUILD: "", Timestamps.SOURCE: _FROM_CONTEXT, Timestamps.ZERO: "0"}


def resolve_epoch(
    text: str, fetched: FetchedContext, source_of: Callable[[str], EpochSource | None], remotes: Remotes
) -> int | None:
    """Seconds since 1970; None without a value, or where the context has no time of its own (a folder).

    Args:
        source_of: gives what the stage of a name adds, None where there is no such stage.

    Raises:
        UsageError: when it is neither a number nor ``context`` nor a stage's name.
        DockerfileError, SourceError: a stage of another kind, a source that can't be fetched.
    """
    if not text:
        return None
    if text == _FROM_CONTEXT:
        return fetched.time_s
    source = None if text.isdigit() else source_of(text)
    if source is not None:
        try:
            return remotes.saying(source.substitutions.as_written).time_of(source.remote)
        except ImagewrightError as error:
            source.substitutions.restore(error)
            raise
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 33:
        raise UsageError(
            f"{EPOCH}={text}: neither a number of seconds since 1970 nor 'context' nor a stage's name",
            hint="git log -1 --pretty=%ct gives a good one; 'context' takes it from a git context.",
        )
    return int(text)
