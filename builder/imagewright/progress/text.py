"""Making foreign text safe and short, and numbers readable.

Pure; no I/O. Called by the displays.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_]|[ -/][0-~])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
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

    def add(self, data: bytes) -> Iterator[str]:
        *whole, self._open = (self._open + self._decoder.decode(data)).split("\n")
        for line in whole:
            yield clean(line)
        while len(self._open) > _MAX_LINE:
            yield clean(self._open[:_MAX_LINE])
            self._open = self._open[_MAX_LINE:]

    def rest(self) -> Iterator[str]:
        """What has no line end yet."""
        line, self._open = self._open + self._decoder.decode(b"", final=True), ""
        if line:
            yield clean(line)


def size(count: int) -> str:
    """Bytes as people read them, in powers of 1000, as registries show them."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.2f} GB"


def duration(seconds: float) -> str:
    """Tenths below a minute, minutes and seconds above."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
