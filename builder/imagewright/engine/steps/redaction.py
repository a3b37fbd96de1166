"""Secrets in the output of a RUN, replaced before anybody sees them: the log, the error's last lines, the result.

No I/O. Used by ``engine.run`` with what ``--secret`` gave. Output comes in pieces of any size: what may turn out to be the
beginning of a secret is held back until the next piece says.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

MASK = b"***"
MIN_BYTES = 4  # a shorter one is in every second word, and no secret
_FEW = 32
_LONG_BYTES = 16  # of many long ones few begin alike
_PIECE_BYTES = 512  # a longer line is looked for in pieces


class Redaction:
    """The secrets of a build. A text of several lines is looked for line by line, as it is likely to be printed."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = _Needles(tuple(sorted({needle for value in values for needle in _needles(value)})))

    def stream(self) -> RedactedStream:
        """For the output of one command."""
        return RedactedStream(self._needles)


class RedactedStream:
    """Bytes in, the same bytes without secrets out, in order and as soon as that can be told.

    Holds fewer bytes than the longest thing that is looked for.
    """

    def __init__(self, needles: _Needles) -> None:
        self._needles = needles
        self._held = b""
        self._masked = 0  # bytes of what is held that belong to a secret whose mask was shown already

    def feed(self, data: bytes) -> bytes:
        """What can be shown now; the rest comes with the next piece, or with ``end``."""
        if not self._needles.all:
            return data
        data = self._held + data
        return self._shown(data, len(data) - self._needles.begun(data))

    def end(self) -> bytes:
        """What is left: the beginning of a secret, maybe, but no secret."""
        return self._shown(self._held, len(self._held))

    def _shown(self, data: bytes, cut: int) -> bytes:
        """``data`` up to ``cut``, masked; the rest is held. No secret that is not whole begins before the cut."""
        begun = [(0, self._masked)] if self._masked else []
        parts, shown = [], 0
        self._masked = 0
        for start, end in _merged([*begun, *self._needles.occurrences(data)]):
            if not (begun and start == 0):
                if start >= cut:
                    break
                parts += [data[shown:start], MASK]
            shown = min(end, cut)
            self._masked = end - shown
        self._held = data[cut:]
        return b"".join([*parts, data[shown:cut]])


class _Needles:
    """What is looked for, sorted: few things one by one, many by how they begin. A key has dozens of lines, a bundle of
    certificates thousands.
    """

    def __init__(self, needles: tuple[bytes, ...]) -> None:
        self.all = needles
        self._longest = max((len(needle) for needle in needles), default=0)
        self._first_bytes = frozenset(needle[0] for needle in needles)
        self._by_beginning: dict[bytes, list[bytes]] = {}
        for needle in needles if len(needles) > _FEW else ():
            size = _LONG_BYTES if len(needle) >= _LONG_BYTES else MIN_BYTES
            self._by_beginning.setdefault(needle[:size], []).append(needle)

    def occurrences(self, data: bytes) -> Iterator[tuple[int, int]]:
        """All of them, in any order, overlapping or not."""
        if not self._by_beginning:
            for needle in self.all:
                start = data.find(needle)
                while start >= 0:
                    yield start, start + len(needle)
                    start = data.find(needle, start + 1)
            return
        for start in range(len(data) - MIN_BYTES + 1):
            for size in (MIN_BYTES, _LONG_BYTES):
                for needle in self._by_beginning.get(data[start : start + size], ()):
                    if data.startswith(needle, start):
                        yield start, start + len(needle)

    def begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of one. None has a line's end in it."""
        first = max(data.rfind(b"\n") + 1, len(data) - self._longest + 1)
        for start in range(first, len(data)):
            if data[start] in self._first_bytes:
                end = data[start:]
                place = bisect.bisect_right(self.all, end)  # longer ones that begin so come right after it
                if place < len(self.all) and self.all[place].startswith(end):
                    return len(end)
        return 0


def _needles(value: bytes) -> Iterator[bytes]:
    for line in value.replace(b"\r", b"\n").split(b"\n"):
        text = line.strip()
        if len(text) < MIN_BYTES:
            continue
        if len(text) <= _PIECE_BYTES:
            yield text
            continue
        for start in range(0, len(text) - _PIECE_BYTES, _PIECE_BYTES):
            yield text[start : start + _PIECE_BYTES]
        yield text[-_PIECE_BYTES:]


def _merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans that overlap become one: what two secrets share must not be left over."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
