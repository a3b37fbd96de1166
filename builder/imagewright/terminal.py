"""Foreign text, made safe for terminals, logs and messages: what a command prints may hold anything.

No I/O. Used by the displays, and by the engine for what an error quotes of a command's output.
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
# C0 but for tab, C1, lone surrogates, and what turns the direction of text around (CVE-2021-42574)
_CONTROLS = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\u2028\u2029]")
_MAX_LINE = 16 * 1024


def clean(line: str) -> str:
    """Without terminal escapes and control characters; of a line that rewrites itself (``\\r``) the last version."""
    line = line.rstrip("\r").rpartition("\r")[2]
    return _CONTROLS.sub("", _ESCAPES.sub("", line))


class Lines:
    """Cuts a stream of bytes, arriving in pieces, into clean lines; a line without end is cut at 16 KiB."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._open = ""

    def add(self, data: bytes) -> list[str]:
        """The lines that end in ``data``."""
        *whole, self._open = (self._open + self._decoder.decode(data)).split("\n")
        lines = [clean(line) for line in whole]
        if len(self._open) > _MAX_LINE and "\r" in self._open[:-1]:
            # A progress bar that never ends its line: only its last version counts. The last character may be half a "\r\n".
            self._open = self._open[:-1].rpartition("\r")[2] + self._open[-1]
        while len(self._open) > _MAX_LINE:
            lines.append(clean(self._open[:_MAX_LINE]))
            self._open = self._open[_MAX_LINE:]
        return lines

    def unfinished(self) -> str:
        """The line that has no end yet, as it would be shown."""
        return clean(self._open)

    def rest(self) -> Iterator[str]:
        """What has no line end when the stream ends."""
        line, self._open = self._open + self._decoder.decode(b"", final=True), ""
        if line:
            yield clean(line)
