"""Secrets in the output of a RUN, masked before they reach the log, the error's last lines and the result.

No I/O. Output comes in pieces of any size: bytes that may be the beginning of a secret are held back until the next
piece.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Iterator

MASK = b"***"
MIN_BYTES = 4  # shorter values occur in ordinary words, and are not secret
_FEW = 32
_LONG_BYTES = 16  # few long secrets share a prefix of this length
_PIECE_BYTES = 512  # longer lines are searched for in pieces


class Redaction:
    """The secrets of a build. A secret of several lines is searched for line by line, as it is likely to be printed."""

    def __init__(self, values: Iterable[bytes]) -> None:
        self._needles = _Needles(tuple(sorted({needle for value in values for needle in _needles(value)})))

    def stream(self) -> RedactedStream:
        """For the output of one command."""
        return RedactedStream(self._needles)


class RedactedStream:
    """Passes bytes on without secrets, in order and as soon as possible.

    Holds back fewer bytes than the longest secret has.
    """

    def __init__(self, needles: _Needles) -> None:
        self._needles = needles
        self._held = b""
        self._masked = 0  # bytes held back that belong to a secret whose mask was emitted already

    def feed(self, data: bytes) -> bytes:
        """What can be passed on now; the rest follows with the next piece, or with ``end``."""
        if not self._needles.all:
            return data
        data = self._held + data
        return self._shown(data, len(data) - self._needles.begun(data))

    def end(self) -> bytes:
        """The rest: possibly the beginning of a secret, but not a whole one."""
        return self._shown(self._held, len(self._held))

    def _shown(self, data: bytes, cut: int) -> bytes:
        """``data`` up to ``cut``, masked; the rest is held back. No incomplete secret begins before the cut."""
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
    """The byte strings to search for, sorted. Few are searched for one by one, many by their prefix: a key has dozens
    of lines, a bundle of certificates thousands.
    """

    def __init__(self, needles: tuple[bytes, ...]) -> None:
        self.all = needles
        self._longest = max((len(needle) for needle in needles), default=0)
        self._first_bytes = frozenset(needle[0] for needle in needles)
        self._by_prefix: dict[bytes, list[bytes]] = {}
        for needle in needles if len(needles) > _FEW else ():
            size = _LONG_BYTES if len(needle) >= _LONG_BYTES else MIN_BYTES
            self._by_prefix.setdefault(needle[:size], []).append(needle)

    def occurrences(self, data: bytes) -> Iterator[tuple[int, int]]:
        """All occurrences, in any order, overlapping or not."""
        if not self._by_prefix:
            for needle in self.all:
                start = data.find(needle)
                while start >= 0:
                    yield start, start + len(needle)
                    start = data.find(needle, start + 1)
            return
        for start in range(len(data) - MIN_BYTES + 1):
            for size in (MIN_BYTES, _LONG_BYTES):
                for needle in self._by_prefix.get(data[start : start + size], ()):
                    if data.startswith(needle, start):
                        yield start, start + len(needle)

    def begun(self, data: bytes) -> int:
        """How many bytes at the end of ``data`` may be the beginning of a secret. None contains a line end."""
        first = max(data.rfind(b"\n") + 1, len(data) - self._longest + 1)
        for start in range(first, len(data)):
            if data[start] in self._first_bytes:
                end = data[start:]
                position = bisect.bisect_right(self.all, end)  # strings with this prefix follow it directly
                if position < len(self.all) and self.all[position].startswith(end):
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
    """Merge overlapping spans: no part of two overlapping secrets may remain."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
