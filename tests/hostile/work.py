"""What a call costs, counted: lines of the project that it executes, bytes that it allocates.

No I/O. A hostile input must cost a number of lines in proportion to its length, and a bounded amount of memory; a clock
would tell the same only on an idle machine.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

Text = str | Sequence[str | tuple[str, int]]


class TooMuchWork(Exception):
    """The call was ended, since it executed more lines than it may."""


def written(text: Text) -> str:
    """The text that an entry of a corpus stands for."""
    parts = [text] if isinstance(text, str) else text
    return "".join(part if isinstance(part, str) else part[0] * part[1] for part in parts)


def lines(call: Callable[[], object], limit: int) -> int:
    """How many lines of the project ``call`` executes; exceptions of the project are results, too.

    Raises:
        TooMuchWork: more than ``limit``.
    """
    count = 0

    def line(_frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        if event == "line":
            count += 1
            if count > limit:
                raise TooMuchWork(f"more than {limit} lines")
        return line

    def enter(frame: FrameType, _event: str, _argument: object) -> Any:
        return line if "imagewright" in frame.f_code.co_filename else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes that were allocated at once while ``call`` ran, beyond those before it."""
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
