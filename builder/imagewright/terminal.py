"""Sanitises output of commands for terminals, logs and messages.

No I/O.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

_ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]?"  # CSI: colours, cursor
    r"|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC (titles, links) and other strings
    r"|[ -/]*[0-~])?"
)
# C0 without tab, C1, lone surrogates, and controls of bidirectional text (CVE-2021-42574)
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\u2028\u2029]")
_MAX_LINE = 16 * 1024


def clean(line: str) -> str:
    """A line without escape sequences and control characters; if it rewrites itself (``\\r``), the last version."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub("", line))


class Lines:
    """Splits a stream of bytes, arriving in chunks, into clean lines; an endless line is split at 16 KiB."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    def add(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *whole, self._open = (self._open + self._decoder.decode(data)).split("\n")
        lines = [clean(line) for line in whole]
        if len(self._open) > _MAX_LINE and "\r" in self._open[:-1]:
            # A progress bar that never ends its line: only the last version counts. The last character may be half a
            # "\r\n".
            self._open = self._open[:-1].rpartition("\r")[2] + self._open[-1]
        while len(self._open) > _MAX_LINE:
            lines.append(clean(self._open[:_MAX_LINE]))
            self._open = self._open[_MAX_LINE:]
        return lines

    def unfinished(self) -> str:
        """The incomplete line, as it would be shown."""
        return clean(self._open)

    def rest(self) -> Iterator[str]:
        """The incomplete line at the end of the stream."""
        line, self._open = self._open + self._decoder.decode(b"", final=True), ""
        if line:
            yield clean(line)
