"""The end of an executor's log: its last lines, its last step and its result.

No I/O. The log contains whatever a RUN printed: long or binary lines, or lines that look like the executor's own last
line.
"""

from __future__ import annotations

import json
import re

from imagewright.contract import RESULT_LOG_KEY
from imagewright.contract.result import BuildResult

MAX_TAIL_BYTES = 4096
_RESULT_START = f'{{"{RESULT_LOG_KEY}"'
_STEP = re.compile(r"^\[([^\]\n]*)\] .*$", re.MULTILINE)
_MAX_STEP = 200
_LONGEST_PAUSE_S = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def tail(data: bytes) -> tuple[str, bool]:
    """The last whole lines, at most MAX_TAIL_BYTES of valid UTF-8, and whether earlier ones are omitted.

    The executor's result line, terminal escapes and control characters are removed. A single line that is longer than
    the limit is cut at its start, marked by an ellipsis.
    """
    text = data.decode("utf-8", errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    lines = _CONTROLS.sub("", _ESCAPES.sub("", text)).split("\n")
    while lines and not lines[-1]:
        lines.pop()
    if lines and lines[-1].startswith(_RESULT_START):
        lines.pop()
    kept: list[str] = []
    size = 0
    for line in reversed(lines):
        size += len(line.encode()) + 1
        if size > MAX_TAIL_BYTES:
            break
        kept.append(line)
    if not kept and lines:
        return "…" + _last_bytes(lines[-1], MAX_TAIL_BYTES - 4) + "\n", True
    kept.reverse()
    return "".join(f"{line}\n" for line in kept), len(kept) < len(lines)


def step(data: bytes) -> str:
    """The step that started last, as the executor writes it at the start of a line; "" if ``data`` has none.

    The output of a RUN cannot look like this: each of its lines is indented.
    """
    found = [match for match in _STEP.finditer(data.decode("utf-8", errors="replace")) if _is_counted(match[1])]
    return _CONTROLS.sub("", found[-1][0])[:_MAX_STEP] if found else ""


def _is_counted(name: str) -> bool:
    """Whether it ends in a number of a step and one of all steps: ``stage-0 2/5``."""
    number, _, count = name.rpartition("/")
    return number[-1:].isdecimal() and count.isdecimal()


def pause_s(age_s: float, least_s: float) -> float:
    """Seconds until the log of a build of this age is read again: a tenth of its age, at most a minute; 0 for never."""
    return max(least_s, min(age_s / 10, _LONGEST_PAUSE_S)) if least_s else 0.0


def result(data: bytes) -> BuildResult | None:
    """The result in the last line of the log, if it is one.

    To be trusted only if the container exited by itself: a RUN can print such a line, too.
    """
    last = data.rstrip().rpartition(b"\n")[2].decode("utf-8", errors="replace")
    if not last.startswith(_RESULT_START):
        return None
    try:
        return BuildResult.parse(json.dumps(json.loads(last)[RESULT_LOG_KEY]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _last_bytes(text: str, limit: int) -> str:
    return text.encode()[-limit:].decode("utf-8", errors="ignore")
