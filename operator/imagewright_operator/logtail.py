"""The end of an executor's log, as it goes into the status.

No I/O. Called by ``reconcile`` with the last bytes that ``cluster`` has read. The log is whatever a RUN printed:
long, binary, without line ends, or made to look like the executor's own last line.
"""

from __future__ import annotations

import json
import re

from imagewright.contract import RESULT_LOG_KEY, BuildResult

MAX_TAIL_BYTES = 4096
_RESULT_START = f'{{"{RESULT_LOG_KEY}"'
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def tail(data: bytes) -> tuple[str, bool]:
    """The last whole lines, at most MAX_TAIL_BYTES of valid UTF-8, and whether something was left out before them.

    The executor's result line is left out, terminal escapes and control characters too. Of a single line that is
    longer than the limit the end is kept, marked with an ellipsis.
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


def result(data: bytes) -> BuildResult | None:
    """The result in the log's very last line, if it is one.

    Only to be believed of a container that ended by itself: a RUN can print such a line as well.
    """
    last = data.rstrip().rpartition(b"\n")[2].decode("utf-8", errors="replace")
    if not last.startswith(_RESULT_START):
        return None
    try:
        return BuildResult.parse(json.dumps(json.loads(last)[RESULT_LOG_KEY]))
    except (ValueError, KeyError, TypeError):
        return None


def _last_bytes(text: str, limit: int) -> str:
    return text.encode()[-limit:].decode("utf-8", errors="ignore")
